-- Takes requests from every bucket of a caller, as many of those that are asked for as all have room for, or from none.
-- KEYS: the buckets. ARGV: the time in microseconds, or '' for this server's own; how many milliseconds longer than it matters
-- a bucket is kept; how many requests are asked for; then for each bucket the microseconds between two requests and those of a
-- whole burst.
-- Answers with the microseconds until all have room, the place of the bucket that takes longest (0: all had room), how many
-- requests were taken, and for each bucket how many microseconds ahead of now its next request is due.
local function put(key, now, ahead)
  local keep = math.ceil(ahead / 1000) + tonumber(ARGV[2])
  redis.call('SET', key, string.format('%.0f', now + ahead), 'PX', string.format('%.0f', keep))
end

local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local ahead, wait, last, room = {}, 0, 0, tonumber(ARGV[3])
for place, key in ipairs(KEYS) do
  local interval, burst = tonumber(ARGV[2 * place + 2]), tonumber(ARGV[2 * place + 3])
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
  room = math.min(room, math.floor((burst - ahead[place]) / interval))
end
if last > 0 then
  return { wait, last, 0, unpack(ahead) }
end
for place, key in ipairs(KEYS) do
  ahead[place] = ahead[place] + room * tonumber(ARGV[2 * place + 2])
  put(key, now, ahead[place])
end
return { 0, 0, room, unpack(ahead) }
