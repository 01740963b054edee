-- Counts the runs of a part of an index, those that are alike together. It changes
-- nothing.
-- KEYS[1] partition root
-- ARGV 1 suffix of the index, 2 first and 3 last creation stamp, 4 '1' to tell
--   target, trigger and plan apart as well
-- Returns {runs looked at, text, runs, steps, succeeded steps, text, ...}; text is
--   account, dialect, type, class, and with '1' kind of target, target, trigger and plan,
--   one a line, as JSON has them. Classes: w not ended, s every step succeeded, f none, p some.
local R = KEYS[1]
local found, texts, fine = {}, {}, ARGV[4] == '1'

-- Reads members of a run's meta. A text that JSON holds has no bare quote, so that
-- these find members, never a part of one.
local function members(m)
  local a, d, k, y = string.match(m, '^{"a":"([^"]*)","d":"([^"]*)","k":"([^"]*)".-"y":"([^"]*)"')
  if a then return a, d, k, y end
  return string.match(m, '"a":"([^"]*)"') or '', string.match(m, '"d":"([^"]*)"') or '',
    string.match(m, '"k":"([^"]*)"') or '', string.match(m, '"y":"([^"]*)"') or ''
end

local runs = redis.call('ZRANGEBYSCORE', R .. ARGV[1], ARGV[2], ARGV[3])
for _, run in ipairs(runs) do
  local h
  if fine then h = redis.call('HMGET', R .. ':run:' .. run, 'st', 'n', 'cs', 'm', 'tg', 'tr', 'pl')
  else h = redis.call('HMGET', R .. ':run:' .. run, 'st', 'n', 'cs', 'm') end
  if h[1] then
    local st, n, ok, class = h[1], tonumber(h[2]), tonumber(h[3] or 0), 'p'
    if st == 'p' or st == 'r' or st == 'c' then class = 'w'
    elseif ok >= n then class = 's'
    elseif ok == 0 then class = 'f' end
    local a, d, k, y = members(h[4])
    local text = a .. '\n' .. d .. '\n' .. y .. '\n' .. class
    if fine then text = text .. '\n' .. k .. '\n' .. h[5] .. '\n' .. (h[6] or '') .. '\n' .. h[7] end
    local f = found[text]
    if not f then
      f = {0, 0, 0}
      found[text], texts[#texts + 1] = f, text
    end
    f[1], f[2], f[3] = f[1] + 1, f[2] + n, f[3] + ok
  end
end
local out = {#runs}
for _, text in ipairs(texts) do
  local f = found[text]
  out[#out + 1], out[#out + 2], out[#out + 3], out[#out + 4] = text, f[1], f[2], f[3]
end
return out
