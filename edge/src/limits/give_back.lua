-- Gives back a request that was taken from a bucket. KEYS: the bucket. ARGV: the microseconds between two requests.
local due = redis.call('GET', KEYS[1])
if due then
  redis.call('SET', KEYS[1], string.format('%.0f', tonumber(due) - tonumber(ARGV[1])), 'KEEPTTL')
end
return 0
