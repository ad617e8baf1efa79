/*
 * engine: stands in for llama-server and costs next to nothing, so that what is
 * measured is the gateway in front of it.
 *
 *     cc -O2 -o engine engine.c
 *     ./engine --port 0 --life 600 [--tokens 100] [--interval-us 20000] [--first-us 0]
 *
 * It listens on 127.0.0.1 only, prints "port N" when it does, and leaves by
 * itself after --life seconds.  On SIGTERM it prints its counters as JSON.
 *
 *   GET  /v1/models        a list of one model
 *   GET  anything else     {"status":"ok"}, as llama-server's /health
 *   POST                   one chat completion, after the first-token delay
 *   POST with "stream":true
 *                          chunked SSE: one event, one chunk and one write for
 *                          each token, then a last chunk with usage and
 *                          timings, then [DONE]
 *   POST with "bytes":N    a body of N bytes as fast as the reader takes it;
 *                          byte i is i mod 251, so that the reader can check it
 *
 * Fields of a request's JSON body win over the command line: "max_tokens",
 * "interval_us", "first_us", "bytes".  Every event begins with "at", the
 * CLOCK_MONOTONIC microsecond it was made at: a reader on the same machine
 * learns from it how long each token was under way.
 *
 * One thread, epoll, a heap of due times.  A reader that does not read stops
 * its own stream and nothing else.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST_FDS = 65536, MOST_REQUEST = 32 << 20, PATTERN = 251, PATTERN_BYTES = PATTERN * 1024 };

typedef struct peer {
    int fd;
    char *in;                /* what has been read and not been answered yet */
    size_t in_len, in_cap;
    char *out;               /* what the socket did not take */
    size_t out_len, out_cap;
    int streaming, blocked, json_due;
    int closing;             /* the request asked for the connection to end */
    long tokens_left, tokens_asked;
    uint64_t interval_us, due, began;
    uint64_t big_left, big_position;
    int place;               /* in the heap, -1 when not there */
} peer;

static peer *peers[MOST_FDS];
static peer **heap;
static int heap_n, heap_cap, poller;
static long default_tokens = 100;
static uint64_t default_interval_us = 20000, default_first_us;
static char pattern[PATTERN_BYTES + PATTERN];
static unsigned long n_connections, n_requests, n_begun, n_finished, n_abandoned;
static volatile sig_atomic_t stopping;

static uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + t.tv_nsec / 1000;
}

/* -- due times ------------------------------------------------------------- */

static void put_at(int i, peer *p) {
    heap[i] = p;
    p->place = i;
}

static void rise(int i) {
    peer *p = heap[i];
    for (; i && heap[(i - 1) / 2]->due > p->due; i = (i - 1) / 2) put_at(i, heap[(i - 1) / 2]);
    put_at(i, p);
}

static void sink(int i) {
    peer *p = heap[i];
    for (;;) {
        int child = 2 * i + 1;
        if (child >= heap_n) break;
        if (child + 1 < heap_n && heap[child + 1]->due < heap[child]->due) child++;
        if (heap[child]->due >= p->due) break;
        put_at(i, heap[child]);
        i = child;
    }
    put_at(i, p);
}

static void schedule(peer *p, uint64_t due) {
    if (heap_n == heap_cap) {
        heap_cap = heap_cap ? heap_cap * 2 : 1024;
        heap = realloc(heap, heap_cap * sizeof *heap);
    }
    p->due = due;
    heap[heap_n] = p;
    p->place = heap_n++;
    rise(p->place);
}

static void unschedule(peer *p) {
    int i = p->place;
    if (i < 0) return;
    p->place = -1;
    peer *last = heap[--heap_n];
    if (last == p) return;
    put_at(i, last);
    rise(i);
    sink(last->place);
}

/* -- writing --------------------------------------------------------------- */

static void watch(peer *p, int writable) {
    struct epoll_event e = {.events = EPOLLIN | (writable ? EPOLLOUT : 0), .data.fd = p->fd};
    epoll_ctl(poller, EPOLL_CTL_MOD, p->fd, &e);
}

static void forget(peer *p) {
    if (p->streaming || p->big_left) n_abandoned++;
    unschedule(p);
    peers[p->fd] = NULL;
    close(p->fd);
    free(p->in);
    free(p->out);
    free(p);
}

/* Sends n bytes, or keeps what the socket does not take. -1 when it is gone. */
static int emit(peer *p, const char *bytes, size_t n) {
    if (!p->out_len) {
        ssize_t sent = send(p->fd, bytes, n, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) return -1;
        if (sent > 0) bytes += sent, n -= sent;
        if (!n) return 0;
        watch(p, 1);
    }
    if (p->out_len + n > p->out_cap) {
        p->out_cap = (p->out_len + n) * 2;
        p->out = realloc(p->out, p->out_cap);
    }
    memcpy(p->out + p->out_len, bytes, n);
    p->out_len += n;
    return 0;
}

static int emit_json(peer *p, const char *body) {
    char whole[2048];
    int n = snprintf(whole, sizeof whole,
                     "HTTP/1.1 200 OK\r\nServer: llama.cpp\r\n"
                     "Content-Type: application/json; charset=utf-8\r\nContent-Length: %zu\r\n\r\n%s",
                     strlen(body), body);
    return emit(p, whole, n);
}

static int emit_completion(peer *p) {
    return emit_json(p, "{\"choices\":[{\"finish_reason\":\"stop\",\"index\":0,\"message\":"
                        "{\"role\":\"assistant\",\"content\":\"Good day. What can I do for you?\"}}],"
                        "\"created\":1795225288,\"model\":\"bench.gguf\",\"object\":\"chat.completion\","
                        "\"usage\":{\"completion_tokens\":9,\"prompt_tokens\":35,\"total_tokens\":44},"
                        "\"id\":\"chatcmpl-bench\"}");
}

static int emit_event(peer *p, const char *event, int n, int last) {
    char chunk[1200];
    int k = snprintf(chunk, sizeof chunk, "%x\r\n%.*s\r\n%s", n, n, event, last ? "0\r\n\r\n" : "");
    return emit(p, chunk, k);
}

/* What is due now for this connection: a completion, or a stream's next event. */
static int tick(peer *p) {
    char event[1024];
    int n;
    if (p->json_due) {
        p->json_due = 0;
        return emit_completion(p);
    }
    if (p->out_len) { /* the reader is slow: go on when it has read */
        p->blocked = 1;
        return 0;
    }
    uint64_t now = now_us();
    if (p->tokens_left > 0) {
        n = snprintf(event, sizeof event,
                     "data: {\"choices\":[{\"finish_reason\":null,\"at\":%lu,\"index\":0,\"delta\":"
                     "{\"content\":\" w%ld\"}}],\"created\":1795225288,\"id\":\"chatcmpl-bench\","
                     "\"model\":\"bench.gguf\",\"object\":\"chat.completion.chunk\"}\n\n",
                     (unsigned long)now, p->tokens_left);
        p->tokens_left--;
        if (emit_event(p, event, n, 0)) return -1;
        uint64_t next = p->interval_us ? p->due + p->interval_us : now;
        schedule(p, next);
        return 0;
    }
    if (p->tokens_left == 0) {
        double ms = (now - p->began) / 1e3;
        n = snprintf(event, sizeof event,
                     "data: {\"choices\":[{\"finish_reason\":\"length\",\"index\":0,\"delta\":{}}],"
                     "\"created\":1795225288,\"id\":\"chatcmpl-bench\",\"model\":\"bench.gguf\","
                     "\"object\":\"chat.completion.chunk\",\"usage\":{\"completion_tokens\":%ld,"
                     "\"prompt_tokens\":35,\"total_tokens\":%ld},\"timings\":{\"prompt_n\":35,"
                     "\"prompt_ms\":1.0,\"predicted_n\":%ld,\"predicted_ms\":%.3f}}\n\n",
                     p->tokens_asked, p->tokens_asked + 35, p->tokens_asked, ms);
        p->tokens_left--;
        if (emit_event(p, event, n, 0)) return -1;
        schedule(p, now);
        return 0;
    }
    p->streaming = 0;
    n_finished++;
    return emit_event(p, "data: [DONE]\n\n", 14, 1);
}

/* The socket can take more: what was kept first, then a big body's next part. */
static int flow(peer *p) {
    while (p->out_len) {
        ssize_t sent = send(p->fd, p->out, p->out_len, MSG_NOSIGNAL);
        if (sent < 0) return errno == EAGAIN ? 0 : -1;
        memmove(p->out, p->out + sent, p->out_len - sent);
        p->out_len -= sent;
    }
    while (p->big_left) {
        size_t n = p->big_left < PATTERN_BYTES ? p->big_left : PATTERN_BYTES;
        ssize_t sent = send(p->fd, pattern + p->big_position % PATTERN, n, MSG_NOSIGNAL);
        if (sent < 0) return errno == EAGAIN ? 0 : -1;
        p->big_left -= sent;
        p->big_position += sent;
        if (!p->big_left) n_finished++;
    }
    watch(p, 0);
    if (p->blocked) {
        p->blocked = 0;
        schedule(p, now_us());
    }
    return 0;
}

/* -- reading --------------------------------------------------------------- */

static char *field(char *body, size_t n, const char *name) {
    char *at = memmem(body, n, name, strlen(name));
    if (!at) return NULL;
    at += strlen(name);
    while (at < body + n && (*at == ' ' || *at == ':')) at++;
    return at < body + n ? at : NULL;
}

static int answer_get(peer *p, const char *head) {
    if (!strncmp(head + 4, "/v1/models", 10))
        return emit_json(p, "{\"object\":\"list\",\"data\":[{\"id\":\"bench.gguf\",\"object\":\"model\","
                            "\"created\":1795225288,\"owned_by\":\"llamacpp\"}]}");
    return emit_json(p, "{\"status\":\"ok\"}");
}

static int answer_post(peer *p, char *body, size_t n) {
    char saved = body[n], *at;
    uint64_t first_us = default_first_us;
    body[n] = 0;
    p->interval_us = default_interval_us;
    p->tokens_asked = default_tokens;
    if ((at = field(body, n, "\"max_tokens\""))) p->tokens_asked = atol(at);
    if ((at = field(body, n, "\"interval_us\""))) p->interval_us = atoll(at);
    if ((at = field(body, n, "\"first_us\""))) first_us = atoll(at);
    uint64_t bytes = (at = field(body, n, "\"bytes\"")) ? (uint64_t)atoll(at) : 0;
    int stream = (at = field(body, n, "\"stream\"")) && *at == 't';
    body[n] = saved;
    p->began = now_us();
    if (bytes) {
        char head[256];
        int k = snprintf(head, sizeof head,
                         "HTTP/1.1 200 OK\r\nServer: llama.cpp\r\n"
                         "Content-Type: application/octet-stream\r\nContent-Length: %lu\r\n\r\n",
                         (unsigned long)bytes);
        p->big_left = bytes;
        p->big_position = 0;
        n_begun++;
        if (emit(p, head, k)) return -1;
        watch(p, 1);
        return 0;
    }
    if (stream) {
        static const char head[] = "HTTP/1.1 200 OK\r\nServer: llama.cpp\r\n"
                                   "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        n_begun++;
        p->streaming = 1;
        p->tokens_left = p->tokens_asked;
        if (emit(p, head, sizeof head - 1)) return -1;
    } else if (!first_us) {
        return emit_completion(p);
    } else {
        p->json_due = 1;
    }
    schedule(p, p->began + first_us);
    return 0;
}

/* Answers every whole request in the buffer. -1 when the peer is to be dropped. */
static int serve(peer *p) {
    for (;;) {
        p->in[p->in_len] = 0;
        char *end = memmem(p->in, p->in_len, "\r\n\r\n", 4);
        if (!end) return p->in_len > (1 << 16) ? -1 : 0;
        size_t head = end + 4 - p->in, body = 0;
        int post = !strncmp(p->in, "POST ", 5);
        end[2] = 0;
        char *length = strcasestr(p->in, "\r\ncontent-length:");
        int chunked = strcasestr(p->in, "\r\ntransfer-encoding: chunked") != NULL;
        p->closing = strcasestr(p->in, "\r\nconnection: close") != NULL;
        end[2] = '\r';
        if (chunked) {
            char *last = memmem(p->in + head, p->in_len - head, "0\r\n\r\n", 5);
            if (!last) return 0;
            body = last + 5 - (p->in + head);
        } else if (length) {
            body = atol(length + 17);
            if (body > MOST_REQUEST) return -1;
        }
        if (p->in_len < head + body) return 0;
        n_requests++;
        if (post ? answer_post(p, p->in + head, body) : answer_get(p, p->in)) return -1;
        memmove(p->in, p->in + head + body, p->in_len - head - body);
        p->in_len -= head + body;
    }
}

static int take(peer *p) {
    if (p->in_cap - p->in_len < 1024) {
        if (p->in_cap > MOST_REQUEST + (1 << 16)) return -1;
        p->in_cap = p->in_cap ? p->in_cap * 2 : 2048;
        p->in = realloc(p->in, p->in_cap + 1);
    }
    ssize_t n = recv(p->fd, p->in + p->in_len, p->in_cap - p->in_len, 0);
    if (n == 0) return -1;
    if (n < 0) return errno == EAGAIN ? 0 : -1;
    p->in_len += n;
    return serve(p);
}

static void welcome(int listener) {
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (fd >= MOST_FDS) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        peer *p = calloc(1, sizeof *p);
        p->fd = fd;
        p->place = -1;
        peers[fd] = p;
        struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e);
        n_connections++;
    }
}

/* Whether the last answer is out whole and the connection was to end with it. */
static int over(const peer *p) {
    return p->closing && !p->streaming && !p->json_due && !p->out_len && !p->big_left;
}

static void on_signal(int number) {
    (void)number;
    stopping = 1;
}

int main(int argc, char **argv) {
    static const struct option options[] = {
        {"port", 1, 0, 'p'},     {"tokens", 1, 0, 't'}, {"interval-us", 1, 0, 'i'},
        {"first-us", 1, 0, 'f'}, {"life", 1, 0, 'l'},   {0, 0, 0, 0}};
    int port = 0, life = 600, option, one = 1;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'p') port = atoi(optarg);
        else if (option == 't') default_tokens = atol(optarg);
        else if (option == 'i') default_interval_us = atoll(optarg);
        else if (option == 'f') default_first_us = atoll(optarg);
        else if (option == 'l') life = atoi(optarg);
        else return 2;
    }
    for (size_t i = 0; i < sizeof pattern; i++) pattern[i] = (char)(i % PATTERN);
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (bind(listener, (void *)&address, sizeof address) || listen(listener, 4096) ||
        getsockname(listener, (void *)&address, &size)) {
        perror("engine: cannot listen");
        return 1;
    }
    printf("port %d\n", ntohs(address.sin_port));
    fflush(stdout);
    poller = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[512];
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    uint64_t end = now_us() + (uint64_t)life * 1000000u;
    while (!stopping && now_us() < end) {
        int wait_ms = 200;
        if (heap_n) {
            int64_t until = (int64_t)heap[0]->due - (int64_t)now_us();
            wait_ms = until <= 0 ? 0 : until > 200000 ? 200 : (int)((until + 999) / 1000);
        }
        int n = epoll_wait(poller, events, 512, wait_ms);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                welcome(listener);
                continue;
            }
            peer *p = peers[fd];
            if (!p) continue;
            int gone = 0;
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) gone = take(p);
            if (!gone && (events[i].events & EPOLLOUT)) gone = flow(p);
            if (gone || (!p->in_len && over(p))) forget(p);
        }
        uint64_t now = now_us();
        for (int budget = 2048; heap_n && heap[0]->due <= now && budget; budget--) {
            peer *p = heap[0];
            unschedule(p);
            if (tick(p) || over(p)) forget(p);
        }
    }
    printf("{\"connections\":%lu,\"requests\":%lu,\"begun\":%lu,\"finished\":%lu,\"abandoned\":%lu}\n",
           n_connections, n_requests, n_begun, n_finished, n_abandoned);
    return 0;
}
