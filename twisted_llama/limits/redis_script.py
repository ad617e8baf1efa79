"""
The sliding window as one script that Redis runs.

Redis runs a script alone from beginning to end, and with its own clock, so gateways
whose clocks differ still share one window.  Scores are microseconds: as doubles they
are exact until the year 2255.  Needs Redis 5, or anything that speaks its scripts.
"""

from __future__ import annotations

from typing import Final

# KEYS[1]: the window, a sorted set of stamps by the time they were accepted at.
# ARGV: the limit, the length of the window in microseconds, the stamp.
# Returns: whether it was accepted, how many count now, and the microseconds until the
# next one would be accepted and until none counts.
#
# Redis' clock is a wall clock and may be set back.  Acceptances that then lie in the
# future are moved to now: they still count, and for no longer than a window.
TAKE: Final = b"""
local key, limit, length, stamp = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local function number(value) return string.format('%.0f', value) end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
for _, early in ipairs(redis.call('ZRANGEBYSCORE', key, '(' .. number(now), '+inf')) do
  redis.call('ZADD', key, number(now), early)
end
redis.call('ZREMRANGEBYSCORE', key, '-inf', number(now - length))
local count = redis.call('ZCARD', key)
if count < limit then
  redis.call('ZADD', key, number(now), stamp)
  redis.call('PEXPIRE', key, number(length / 1000))
  return {1, count + 1, 0, length}
end
local first = redis.call('ZRANGE', key, count - limit, count - limit, 'WITHSCORES')
local last = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')
return {0, count, tonumber(first[2]) + length - now, tonumber(last[2]) + length - now}
"""
