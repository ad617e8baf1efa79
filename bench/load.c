/*
 * load: puts load on a gateway and measures what it costs there.
 *
 *     cc -O2 -o load load.c
 *     ./load --port 8000 --clients 32 --seconds 5 --key sk-... --pid 1234
 *
 * Three ways to use it:
 *   closed loop (default)  each client has one request under way; completions,
 *                          or streams with --stream; --new-connections opens
 *                          one for each; --get asks for the --path(s) in turn
 *   --hold                 opens all streams, waits until each has its first
 *                          token, holds them for --seconds; says how many were
 *                          lost and what one costs in memory
 *   --stall S --bytes N    each client asks for N bytes, reads nothing for S
 *                          seconds, then everything, and checks every byte
 *
 * A window is measured: after --warmup, for --seconds. Inside it every event
 * is timed. CPU time is that of the processes named by --pid, all threads,
 * ended ones too, in nanoseconds (the kernel's clock of a process); memory is
 * their VmRSS. A response is ok when its status is 200 and its body ended as it
 * was framed; a stream needs its [DONE] too. One line of JSON comes out.
 *
 * first_ms: from the request's first byte sent (or the connection's opening) to
 * the body's first byte. delay_ms: from the engine making an event (its "at")
 * to the client reading it. gap_ms: between two reads of one stream.
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

enum { MOST_PIDS = 64, MOST_PATHS = 8, HEAD_MOST = 16384, PATTERN = 251, LINE = 64 };
enum framing { BY_LENGTH, BY_CHUNKS, BY_CLOSE };
enum chunk_part { SIZE, EXTENSION, BYTES, AFTER_BYTES, TRAILER };

typedef struct {
    float *v;
    size_t n, cap;
} series;

typedef struct {
    int fd, connected, active, watching_out, ready;
    char head_out[1024];
    size_t head_out_n, sent;
    char *head;
    size_t head_n;
    int status, has_head, closing, done_seen, saw_first, bad_bytes;
    enum framing framing;
    enum chunk_part part;
    uint64_t left, position;
    int ended;                /* 1 whole, -1 not */
    char line[LINE];
    int line_n, trailer_n;
    uint64_t began, last, resume_at;
} client;

static int port, n_clients = 32, streaming, fresh, getting, holding, check_delay = 1;
static double seconds = 5, warmup = 1, ramp = 0.2, stall, settle = 1, drain_seconds = 20;
static long tokens_asked = 100, interval_us = -1, first_us = -1, body_bytes, big_bytes, pause_us;
static const char *paths[MOST_PATHS];
static int n_paths, pids[MOST_PIDS], n_pids;
static char **keys, *body;
static size_t n_keys, body_n, next_path;
static uint32_t dice = 2463534242u;

static client *clients;
static int poller, counting, refilling = 1;
static unsigned long ok, bad, tokens, events_read, bytes_read, started;
static unsigned long all_ok, all_bad, refused_connects, by_status[600];
static series first_ms, total_ms, gap_ms, delay_ms;

static uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + t.tv_nsec / 1000;
}

static void note(series *s, double value) {
    if (!counting) return;
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 4096;
        s->v = realloc(s->v, s->cap * sizeof *s->v);
    }
    s->v[s->n++] = (float)value;
}

static int order(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

static void print_series(const char *name, series *s) {
    double sum = 0;
    qsort(s->v, s->n, sizeof *s->v, order);
    for (size_t i = 0; i < s->n; i++) sum += s->v[i];
    if (!s->n) {
        printf(",\"%s\":null", name);
        return;
    }
#define AT(p) s->v[(size_t)((p) * (s->n - 1) + 0.5)]
    printf(",\"%s\":{\"n\":%zu,\"min\":%.3f,\"mean\":%.3f,\"p50\":%.3f,\"p95\":%.3f,\"p99\":%.3f,\"max\":%.3f}",
           name, s->n, s->v[0], sum / s->n, AT(.5), AT(.95), AT(.99), s->v[s->n - 1]);
#undef AT
}

/* -- what the measured processes use --------------------------------------- */

static double cpu_seconds(void) {
    double sum = 0;
    for (int i = 0; i < n_pids; i++) {
        clockid_t clock;
        struct timespec t;
        if (!clock_getcpuclockid(pids[i], &clock) && !clock_gettime(clock, &t))
            sum += t.tv_sec + t.tv_nsec / 1e9;
    }
    return sum;
}

static double system_seconds(void) {
    double sum = 0;
    for (int i = 0; i < n_pids; i++) {
        char path[64], text[1024], *at;
        unsigned long user, system;
        snprintf(path, sizeof path, "/proc/%d/stat", pids[i]);
        FILE *f = fopen(path, "r");
        if (!f) continue;
        size_t n = fread(text, 1, sizeof text - 1, f);
        fclose(f);
        text[n] = 0;
        if ((at = strrchr(text, ')')) &&
            sscanf(at + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) == 2)
            sum += (double)system / sysconf(_SC_CLK_TCK);
    }
    return sum;
}

static long rss_kb(void) {
    long sum = 0;
    for (int i = 0; i < n_pids; i++) {
        char path[64];
        long size, resident = 0;
        snprintf(path, sizeof path, "/proc/%d/statm", pids[i]);
        FILE *f = fopen(path, "r");
        if (!f) continue;
        if (fscanf(f, "%ld %ld", &size, &resident) == 2) sum += resident * (sysconf(_SC_PAGESIZE) / 1024);
        fclose(f);
    }
    return sum;
}

/* -- one client ------------------------------------------------------------ */

static void watch(client *c, int in, int out) {
    struct epoll_event e = {.events = (in ? EPOLLIN : 0) | (out ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e);
    c->watching_out = out;
}

static void drop(client *c) {
    if (c->fd < 0) return;
    if (fresh) { /* leave no TIME_WAIT behind: thousands a second would use the ports up */
        struct linger now = {1, 0};
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }
    close(c->fd);
    c->fd = -1;
    c->connected = 0;
}

static void open_connection(client *c) {
    int one = 1, small = 65536;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) {
        perror("load: socket");
        exit(1);
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (stall > 0) setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    struct epoll_event e = {.events = EPOLLOUT, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &e);
    c->watching_out = 1;
    c->connected = !connect(c->fd, (void *)&a, sizeof a);
}

static void compose(client *c) {
    char authorization[256] = "";
    if (n_keys) {
        dice ^= dice << 13, dice ^= dice >> 17, dice ^= dice << 5;
        snprintf(authorization, sizeof authorization, "Authorization: Bearer %s\r\n", keys[dice % n_keys]);
    }
    const char *path = paths[next_path++ % n_paths];
    if (getting)
        c->head_out_n = snprintf(c->head_out, sizeof c->head_out,
                                 "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%s%s\r\n", path, port,
                                 authorization, fresh ? "Connection: close\r\n" : "");
    else
        c->head_out_n = snprintf(c->head_out, sizeof c->head_out,
                                 "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: load/1\r\n"
                                 "Accept: */*\r\nContent-Type: application/json\r\n%s%s"
                                 "Content-Length: %zu\r\n\r\n",
                                 path, port, authorization, fresh ? "Connection: close\r\n" : "", body_n);
}

static void push(client *c) {
    size_t whole = c->head_out_n + (getting ? 0 : body_n);
    while (c->sent < whole) {
        struct iovec parts[2];
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = 0};
        if (c->sent < c->head_out_n)
            parts[message.msg_iovlen++] = (struct iovec){c->head_out + c->sent, c->head_out_n - c->sent};
        size_t in_body = c->sent > c->head_out_n ? c->sent - c->head_out_n : 0;
        if (whole > c->head_out_n)
            parts[message.msg_iovlen++] = (struct iovec){body + in_body, body_n - in_body};
        ssize_t n = sendmsg(c->fd, &message, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN) {
                if (!c->watching_out) watch(c, !stall, 1);
            } else if (errno != EPIPE && errno != ECONNRESET) {
                c->ended = -1;
            }
            return; /* an answer may be there although the sending failed */
        }
        c->sent += n;
    }
    if (c->watching_out) watch(c, stall > 0 ? c->ready : 1, 0);
}

static void begin(client *c) {
    c->status = c->has_head = c->closing = c->done_seen = c->saw_first = c->ended = 0;
    c->bad_bytes = c->line_n = c->trailer_n = 0;
    c->head_n = c->sent = 0;
    c->left = c->position = 0;
    c->part = SIZE;
    c->active = 1;
    c->began = c->last = now_us();
    started++;
    compose(c);
    if (c->fd < 0) open_connection(c);
    if (c->connected) push(c);
}

/* Body bytes, free of framing: counts tokens, or compares with the pattern. */
static void consume(client *c, const char *b, size_t n, uint64_t now) {
    if (counting) bytes_read += n;
    if (!c->saw_first && (!streaming)) {
        c->saw_first = 1;
        note(&first_ms, (now - c->began) / 1e3);
    }
    if (big_bytes)
        for (size_t i = 0; i < n; i++)
            if ((unsigned char)b[i] != (c->position + i) % PATTERN) c->bad_bytes = 1;
    c->position += n;
    if (!streaming) return;
    int saw = 0;
    for (size_t i = 0; i < n; i++) {
        if (b[i] != '\n') {
            if (c->line_n < LINE - 1) c->line[c->line_n++] = b[i];
            continue;
        }
        c->line[c->line_n] = 0;
        c->line_n = 0;
        if (strncmp(c->line, "data: ", 6)) continue;
        if (!strncmp(c->line + 6, "[DONE]", 6)) {
            c->done_seen = 1;
            continue;
        }
        saw = 1;
        if (counting) tokens++;
        char *at = strstr(c->line + 6, "\"at\":");
        if (at && check_delay) note(&delay_ms, ((double)now - strtoull(at + 5, NULL, 10)) / 1e3);
    }
    if (!saw) return;
    if (counting) events_read++;
    if (c->saw_first) note(&gap_ms, (now - c->last) / 1e3);
    else note(&first_ms, (now - c->began) / 1e3);
    c->saw_first = 1;
    c->last = now;
}

static void unchunk(client *c, const char *b, size_t n, uint64_t now) {
    for (size_t i = 0; i < n && !c->ended;) {
        if (c->part == BYTES) {
            size_t take = n - i < c->left ? n - i : c->left;
            consume(c, b + i, take, now);
            i += take;
            if (!(c->left -= take)) c->part = AFTER_BYTES;
            continue;
        }
        char x = b[i++];
        if (c->part == SIZE && x != '\n') {
            int digit = x >= '0' && x <= '9' ? x - '0' : (x | 32) >= 'a' && (x | 32) <= 'f' ? (x | 32) - 'a' + 10 : -1;
            if (digit >= 0) c->left = c->left * 16 + digit;
            else c->part = EXTENSION;
        } else if (c->part <= EXTENSION && x == '\n') {
            c->part = c->left ? BYTES : TRAILER;
        } else if (c->part == AFTER_BYTES && x == '\n') {
            c->part = SIZE;
        } else if (c->part == TRAILER) {
            if (x == '\n' && c->trailer_n == 0) c->ended = 1;
            else if (x == '\n') c->trailer_n = 0;
            else if (x != '\r') c->trailer_n++;
        }
    }
}

static void feed(client *c, const char *b, size_t n, uint64_t now) {
    if (c->framing == BY_CHUNKS) {
        unchunk(c, b, n, now);
    } else if (c->framing == BY_CLOSE) {
        consume(c, b, n, now);
    } else {
        size_t take = n < c->left ? n : c->left;
        if (take) consume(c, b, take, now);
        if (!(c->left -= take)) c->ended = 1;
    }
}

static void read_head(client *c, const char *b, size_t n, uint64_t now) {
    size_t before = c->head_n, take = n < HEAD_MOST - 1 - before ? n : HEAD_MOST - 1 - before;
    if (!c->head) c->head = malloc(HEAD_MOST);
    memcpy(c->head + before, b, take);
    c->head_n += take;
    c->head[c->head_n] = 0;
    char *end = strstr(c->head, "\r\n\r\n"), *at;
    if (!end) {
        if (c->head_n == HEAD_MOST - 1) c->ended = -1;
        return;
    }
    size_t of_head = end + 4 - c->head - before, rest = n - of_head;
    end[2] = 0;
    c->has_head = 1;
    c->status = atoi(c->head + 9);
    c->closing = strcasestr(c->head, "\r\nconnection: close") != NULL;
    if (strcasestr(c->head, "\r\ntransfer-encoding: chunked")) {
        c->framing = BY_CHUNKS;
    } else if ((at = strcasestr(c->head, "\r\ncontent-length:"))) {
        c->framing = BY_LENGTH;
        c->left = strtoull(at + 17, NULL, 10);
        if (!c->left) c->ended = 1;
    } else {
        c->framing = BY_CLOSE;
        c->closing = 1;
    }
    if (rest) feed(c, b + of_head, rest, now);
    if (holding || n_clients > 2000) {
        free(c->head);
        c->head = NULL;
    }
}

static void finish(client *c, uint64_t now) {
    int good = c->ended > 0 && c->status == 200 && (!streaming || c->done_seen) && !c->bad_bytes &&
               (!big_bytes || c->position == (uint64_t)big_bytes);
    c->active = 0;
    if (c->status >= 0 && c->status < 600) by_status[c->status]++;
    if (good) all_ok++; else all_bad++;
    if (counting) {
        if (good) ok++; else bad++;
        if (good) note(&total_ms, (now - c->began) / 1e3);
    }
    if (c->ended < 0 || c->closing || fresh) drop(c);
    if (!refilling) return;
    /* a gateway that refuses at once would be asked in a tight loop otherwise */
    long wait = good ? pause_us : pause_us > 20000 ? pause_us : 20000;
    c->resume_at = now + wait;
    if (!wait) begin(c);
}

static void readable(client *c) {
    static char b[262144];
    for (int rounds = 0; rounds < 4 && c->fd >= 0; rounds++) {
        ssize_t n = recv(c->fd, b, sizeof b, 0);
        uint64_t now = now_us();
        if (n < 0 && errno == EAGAIN) return;
        if (!c->active) { /* closed while idle, or bytes nobody asked for */
            drop(c);
            return;
        }
        if (n <= 0) c->ended = n == 0 && c->has_head && c->framing == BY_CLOSE ? 1 : -1;
        else if (!c->has_head) read_head(c, b, n, now);
        else feed(c, b, n, now);
        if (c->ended) {
            finish(c, now);
            return;
        }
        if (n < (ssize_t)sizeof b) return;
    }
}

static void writable(client *c) {
    if (!c->connected) {
        int problem = 0;
        socklen_t size = sizeof problem;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &problem, &size);
        if (problem) {
            refused_connects++;
            c->ended = -1;
            finish(c, now_us());
            return;
        }
        c->connected = 1;
        watch(c, !stall, 1);
    }
    if (c->active) push(c);
    else watch(c, 1, 0);
    if (c->active && c->ended) finish(c, now_us());
}

/* -- the run --------------------------------------------------------------- */

static void turn(int wait_ms) {
    struct epoll_event events[1024];
    int n = epoll_wait(poller, events, 1024, wait_ms);
    for (int i = 0; i < n; i++) {
        client *c = events[i].data.ptr;
        if (c->fd >= 0 && (events[i].events & EPOLLOUT)) writable(c);
        if (c->fd >= 0 && (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))) readable(c);
    }
}

static void resume(void) {
    uint64_t now = now_us();
    for (int i = 0; i < n_clients; i++)
        if (!clients[i].active && clients[i].resume_at && clients[i].resume_at <= now) {
            clients[i].resume_at = 0;
            begin(&clients[i]);
        }
}

static int idle_clients(void) {
    int n = 0;
    for (int i = 0; i < n_clients; i++) n += !clients[i].active;
    return n;
}

static void start_all(void) {
    uint64_t from = now_us();
    for (int i = 0; i < n_clients; i++) {
        uint64_t due = from + (uint64_t)(ramp * 1e6 * i / n_clients);
        while (now_us() < due) turn(1);
        begin(&clients[i]);
        if (i % 64 == 63) turn(0);
    }
}

static void print_common(double window, double cpu, double system, long rss0, long rss1, long peak) {
    printf("\"seconds\":%.3f,\"ok\":%lu,\"bad\":%lu,\"all_ok\":%lu,\"all_bad\":%lu,\"started\":%lu,"
           "\"refused_connects\":%lu,\"tokens\":%lu,\"reads\":%lu,\"bytes\":%lu,",
           window, ok, bad, all_ok, all_bad, started, refused_connects, tokens, events_read, bytes_read);
    printf("\"requests_per_s\":%.1f,\"tokens_per_s\":%.1f,\"cpu_s\":%.4f,\"system_share\":%.3f,"
           "\"cpu_us_per_request\":%.2f,\"cpu_us_per_token\":%.3f,"
           "\"rss_start_kb\":%ld,\"rss_end_kb\":%ld,\"rss_peak_kb\":%ld",
           ok / window, tokens / window, cpu, cpu > 0 ? system / cpu : 0, ok ? cpu * 1e6 / ok : 0,
           tokens ? cpu * 1e6 / tokens : 0, rss0, rss1, peak);
    printf(",\"statuses\":{");
    for (int i = 0, any = 0; i < 600; i++)
        if (by_status[i]) printf("%s\"%d\":%lu", any++ ? "," : "", i, by_status[i]);
    printf("}");
    print_series("first_ms", &first_ms);
    print_series("total_ms", &total_ms);
    print_series("gap_ms", &gap_ms);
    print_series("delay_ms", &delay_ms);
}

/* Turns until the time is up; returns the highest memory seen on the way. */
static long turn_for(double how_long) {
    uint64_t end = now_us() + (uint64_t)(how_long * 1e6), next = 0, resumed = 0;
    long peak = 0;
    for (uint64_t now; (now = now_us()) < end;) {
        if (now >= next) {
            long kb = rss_kb();
            if (kb > peak) peak = kb;
            next = now + 100000;
        }
        if (refilling && now >= resumed) {
            resume();
            resumed = now + 1000;
        }
        turn(end - now < 10000 ? (int)((end - now) / 1000) : pause_us ? 1 : 10);
    }
    return peak;
}

static void run_closed_loop(void) {
    start_all();
    turn_for(warmup);
    long rss0 = rss_kb();
    double system = system_seconds(), cpu = cpu_seconds();
    uint64_t from = now_us();
    counting = 1;
    long peak = turn_for(seconds);
    counting = 0;
    cpu = cpu_seconds() - cpu;
    double window = (now_us() - from) / 1e6;
    system = system_seconds() - system;
    long rss1 = rss_kb();
    refilling = 0;
    uint64_t end = now_us() + (uint64_t)(drain_seconds * 1e6);
    while (idle_clients() < n_clients && now_us() < end) turn(20);
    printf("{\"mode\":\"closed_loop\",\"clients\":%d,\"unfinished\":%d,", n_clients, n_clients - idle_clients());
    print_common(window, cpu, system, rss0, rss1, peak);
    printf("}\n");
}

static void run_hold(void) {
    refilling = 0;
    long rss0 = rss_kb();
    start_all();
    uint64_t end = now_us() + 60000000u;
    int open_streams = 0;
    while (open_streams < n_clients && now_us() < end && !all_bad) {
        turn(20);
        open_streams = 0;
        for (int i = 0; i < n_clients; i++) open_streams += clients[i].active && clients[i].saw_first;
    }
    turn_for(settle);
    long rss1 = rss_kb();
    double system = system_seconds(), cpu = cpu_seconds();
    uint64_t from = now_us();
    counting = 1;
    long peak = turn_for(seconds);
    counting = 0;
    cpu = cpu_seconds() - cpu;
    system = system_seconds() - system;
    uint64_t now = now_us(), longest = 0;
    for (int i = 0; i < n_clients; i++)
        if (clients[i].active && now - clients[i].last > longest) longest = now - clients[i].last;
    printf("{\"mode\":\"hold\",\"clients\":%d,\"opened\":%d,\"lost\":%d,\"longest_silence_ms\":%.1f,"
           "\"kb_per_stream\":%.3f,",
           n_clients, open_streams, idle_clients(), longest / 1e3, (double)(rss1 - rss0) / n_clients);
    print_common((now - from) / 1e6, cpu, system, rss0, rss1, peak);
    printf("}\n");
}

static void run_stall(void) {
    refilling = 0;
    counting = 1;
    long rss0 = rss_kb();
    double cpu = cpu_seconds(), system = system_seconds();
    uint64_t from = now_us();
    start_all();
    long peak = turn_for(stall);
    uint64_t reading = now_us(), end = reading + (uint64_t)(drain_seconds * 1e6);
    long rss1 = rss_kb();
    for (int i = 0; i < n_clients; i++) {
        clients[i].ready = 1;
        if (clients[i].fd >= 0) watch(&clients[i], 1, clients[i].watching_out);
    }
    while (idle_clients() < n_clients && now_us() < end) turn(20);
    cpu = cpu_seconds() - cpu;
    printf("{\"mode\":\"stall\",\"clients\":%d,\"unfinished\":%d,\"grown_kb\":%ld,\"grown_kb_per_client\":%.1f,"
           "\"read_seconds\":%.2f,",
           n_clients, n_clients - idle_clients(), peak - rss0, (double)(peak - rss0) / n_clients,
           (now_us() - reading) / 1e6);
    print_common((now_us() - from) / 1e6, cpu, system_seconds() - system, rss0, rss1, peak);
    printf("}\n");
}

static void read_keys(const char *path) {
    char line[256];
    size_t cap = 0;
    FILE *f = fopen(path, "r");
    if (!f) {
        perror(path);
        exit(2);
    }
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\r\n")] = 0;
        if (n_keys == cap) keys = realloc(keys, (cap = cap ? cap * 2 : 1024) * sizeof *keys);
        keys[n_keys++] = strdup(line);
    }
    fclose(f);
}

static void make_body(void) {
    size_t cap = 1024 + body_bytes;
    body = malloc(cap);
    size_t n = snprintf(body, cap, "{\"model\":\"bench.gguf\",\"max_tokens\":%ld%s", tokens_asked,
                        streaming ? ",\"stream\":true" : "");
    if (interval_us >= 0) n += snprintf(body + n, cap - n, ",\"interval_us\":%ld", interval_us);
    if (first_us >= 0) n += snprintf(body + n, cap - n, ",\"first_us\":%ld", first_us);
    if (big_bytes) n += snprintf(body + n, cap - n, ",\"bytes\":%ld", big_bytes);
    n += snprintf(body + n, cap - n, ",\"messages\":[{\"role\":\"user\",\"content\":\"Say good day.");
    for (; (long)n < body_bytes - 4; n++) body[n] = "The quick brown fox. "[n % 21];
    n += snprintf(body + n, cap - n, "\"}]}");
    body_n = n;
}

int main(int argc, char **argv) {
    static const struct option options[] = {
        {"port", 1, 0, 'p'},        {"clients", 1, 0, 'c'},  {"seconds", 1, 0, 'd'},
        {"warmup", 1, 0, 'w'},      {"ramp", 1, 0, 'r'},     {"stream", 0, 0, 's'},
        {"tokens", 1, 0, 't'},      {"interval-us", 1, 0, 'i'}, {"first-us", 1, 0, 'f'},
        {"new-connections", 0, 0, 'x'}, {"key", 1, 0, 'k'},  {"keys-file", 1, 0, 'K'},
        {"path", 1, 0, 'u'},        {"get", 0, 0, 'g'},      {"body-bytes", 1, 0, 'b'},
        {"bytes", 1, 0, 'B'},       {"stall", 1, 0, 'S'},    {"hold", 0, 0, 'H'},
        {"settle", 1, 0, 'e'},      {"pause-us", 1, 0, 'P'}, {"pid", 1, 0, 'I'},
        {"drain", 1, 0, 'D'},       {0, 0, 0, 0}};
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) switch (option) {
        case 'p': port = atoi(optarg); break;
        case 'c': n_clients = atoi(optarg); break;
        case 'd': seconds = atof(optarg); break;
        case 'w': warmup = atof(optarg); break;
        case 'r': ramp = atof(optarg); break;
        case 's': streaming = 1; break;
        case 't': tokens_asked = atol(optarg); break;
        case 'i': interval_us = atol(optarg); break;
        case 'f': first_us = atol(optarg); break;
        case 'x': fresh = 1; break;
        case 'k': keys = realloc(keys, (n_keys + 1) * sizeof *keys); keys[n_keys++] = optarg; break;
        case 'K': read_keys(optarg); break;
        case 'u': if (n_paths < MOST_PATHS) paths[n_paths++] = optarg; break;
        case 'g': getting = 1; break;
        case 'b': body_bytes = atol(optarg); break;
        case 'B': big_bytes = atol(optarg); break;
        case 'S': stall = atof(optarg); break;
        case 'H': holding = streaming = 1; break;
        case 'e': settle = atof(optarg); break;
        case 'P': pause_us = atol(optarg); break;
        case 'I': if (n_pids < MOST_PIDS) pids[n_pids++] = atoi(optarg); break;
        case 'D': drain_seconds = atof(optarg); break;
        default: return 2;
        }
    if (!port || n_clients < 1 || seconds > 600) {
        fprintf(stderr, "usage: load --port N [--clients N] [--seconds S] ... (see the top of load.c)\n");
        return 2;
    }
    if (!n_paths) paths[n_paths++] = "/v1/chat/completions";
    signal(SIGPIPE, SIG_IGN);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    make_body();
    poller = epoll_create1(EPOLL_CLOEXEC);
    clients = calloc(n_clients, sizeof *clients);
    for (int i = 0; i < n_clients; i++) clients[i].fd = -1;
    if (holding) run_hold();
    else if (stall > 0) run_stall();
    else run_closed_loop();
    return 0;
}
