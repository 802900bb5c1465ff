-- Takes a request from every bucket of a caller if all have room, and from none otherwise.
-- KEYS: the buckets. ARGV: the time in microseconds, or '' for this server's own; how many milliseconds longer than it matters
-- a bucket is kept; then for each bucket the microseconds between two requests and those of a whole burst.
-- Answers with the microseconds until all have room, the place of the bucket that takes longest (0: all had room), and for
-- each bucket how many microseconds ahead of now its next request is due.
local function put(key, now, ahead)
  local keep = math.ceil(ahead / 1000) + tonumber(ARGV[2])
  redis.call('SET', key, string.format('%.0f', now + ahead), 'PX', string.format('%.0f', keep))
end

local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local ahead, wait, last = {}, 0, 0
for place, key in ipairs(KEYS) do
  local interval, burst = tonumber(ARGV[2 * place + 1]), tonumber(ARGV[2 * place + 2])
  local due = tonumber(redis.call('GET', key) or now)
  ahead[place] = math.max(due - now, 0)
  if ahead[place] > burst then
    -- A clock that went back, or a limit that was longer once: nobody waits for more than one burst.
    ahead[place] = burst
    put(key, now, burst)
  end
  local early = ahead[place] + interval - burst
  if early > wait then
    wait, last = early, place
  end
end
if last == 0 then
  for place, key in ipairs(KEYS) do
    ahead[place] = ahead[place] + tonumber(ARGV[2 * place + 1])
    put(key, now, ahead[place])
  end
end
return { wait, last, unpack(ahead) }
