#!lua name=tsuide_1

-- The store's functions: each one moves one partition from one consistent state to the next.
--
-- The name carries the version of the calls below. A change of arguments, keys or meanings takes
-- the next name, so that workers of two releases can run side by side.
--
-- KEYS of a partition, all under one hash tag ({p17}, or {prefix-p17}), which stands first in the
-- key: a customer id may hold braces and must not choose the slot.
--
--   #      key               type    holds
--   1      {p17}:meta        hash    see below
--   2..17  {p17}:c:0 .. c:f  hash    part letter + customer id -> packed part of the document
--   18     {p17}:due         zset    customer id -> earliest due time of its timers, ms
--   19     {p17}:outbox      stream  <number>-0 -> r = packed records of that call, not yet trimmed
--
-- Fields of meta:
--
--   token       random text of the owner; every other function compares it
--   epoch       how often the partition was claimed
--   generation  Kafka's group generation at the claim
--   schema      version of the packed documents
--   partitions  number of partitions of the topics
--   book        digest of the rule book in force
--   n           number of the next apply call
--   store       identity of the partition in this store, set once by its first owner
--   o:<topic>   next offset to read
--   t:<topic>   offset of our output below which everything is trimmed from the outbox
--
-- A function is isolated, but Redis does not roll back: everything is checked first, then absolute
-- values are written, and the offsets last. Numbers are decimal texts, compared as texts, because
-- Lua's own have 53 bits. Error replies are fixed texts and never hold data.

local MAX = '9007199254740992' -- 2^53, the last integer that Lua's numbers count up to
local CHUNK = 2000             -- arguments for one command; Lua's stack takes 8,000 (must be even)
local CUSTOMER_KEY = 2
local DUE_KEY = 18
local OUTBOX_KEY = 19
local TYPES = { [1] = 'hash', [DUE_KEY] = 'zset', [OUTBOX_KEY] = 'stream' }

local function refuse(text)
  return redis.error_reply(text)
end

local BAD_KEYS = 'BAD_KEYS the number of keys is not that of a partition'
local BAD_TYPE = 'BAD_TYPE a key holds another type'
local BAD_ARGUMENT = 'BAD_ARGUMENT an argument is not what the function takes'
local FENCED = 'FENCED the partition was claimed by another worker'
local OFFSET_MISMATCH = 'OFFSET_MISMATCH the stored position is not the expected one'

-- A canonical decimal integer between 0 and 2^53, as a number; nil for anything else.
local function count(text)
  if not text or #text > 16 or not text:find('^%d+$') then return nil end
  if #text > 1 and text:byte(1) == 48 then return nil end
  -- As texts: 2^53 + 1 as a number would be 2^53.
  if #text == 16 and text > MAX then return nil end
  return tonumber(text)
end

local function topic_ok(text)
  return text and #text > 0 and #text < 250 and not text:find('[^%w._-]')
end

local function type_ok(keys, index)
  local kind = redis.call('TYPE', keys[index]).ok
  return kind == 'none' or kind == (TYPES[index] or 'hash')
end

-- Run a variadic command over args[first..last] in chunks.
local function each(command, key, args, first, last)
  for from = first, last, CHUNK do
    redis.call(command, key, unpack(args, from, math.min(from + CHUNK - 1, last)))
  end
end

-- Read `topic, value` pairs that begin at args[at] (their number first). Puts `t:topic, value`
-- into `writes`; returns where to read on, or nil.
local function read_trimmed(args, at, writes)
  local pairs_left = count(args[at])
  if not pairs_left then return nil end
  at = at + 1
  for _ = 1, pairs_left do
    if not topic_ok(args[at]) or not count(args[at + 1]) then return nil end
    writes[#writes + 1] = 't:' .. args[at]
    writes[#writes + 1] = args[at + 1]
    at = at + 2
  end
  return at
end

-- claim: KEYS meta; ARGV token, generation, partitions, schema. Returns the whole of meta.
-- The last one to claim owns the partition; there is nothing to wait for and nothing to expire.
local function claim(keys, args)
  if #keys ~= 1 then return refuse(BAD_KEYS) end
  if #args ~= 4 or #args[1] < 1 or #args[1] > 64 or not count(args[2]) then
    return refuse(BAD_ARGUMENT)
  end
  local partitions, schema = count(args[3]), count(args[4])
  if not partitions or partitions < 1 or not schema then return refuse(BAD_ARGUMENT) end
  if not type_ok(keys, 1) then return refuse(BAD_TYPE) end

  local stored = redis.call('HMGET', keys[1], 'schema', 'partitions', 'epoch', 'n')
  if stored[1] and tonumber(stored[1]) > schema then
    return refuse('SCHEMA_NEWER the documents were written by a later release')
  end
  if stored[2] and stored[2] ~= args[3] then
    return refuse('PARTITION_COUNT the documents were written under another number of partitions')
  end
  redis.call('HSET', keys[1],
    'token', args[1],
    'epoch', string.format('%.0f', tonumber(stored[3] or '0') + 1),
    'generation', args[2],
    'partitions', args[3],
    'schema', args[4],
    'n', stored[4] or '1')
  return redis.call('HGETALL', keys[1])
end

-- Check args of apply from args[at] on: groups of documents. Appends {key index, first, last of
-- the field-value pairs, last of the fields to delete} to `groups`; returns where to read on.
local function read_documents(args, at, groups)
  local groups_left = count(args[at])
  if not groups_left or groups_left > 16 then return nil end
  at = at + 1
  for _ = 1, groups_left do
    local bucket, sets, dels = count(args[at]), count(args[at + 1]), count(args[at + 2])
    if not bucket or bucket > 15 or not sets or not dels or sets + dels == 0 then return nil end
    local first = at + 3
    local last_set = first + 2 * sets - 1
    local last = last_set + dels
    if last > #args then return nil end
    for i = first, last_set, 2 do
      if #args[i] < 2 or args[i + 1] == '' then return nil end
    end
    for i = last_set + 1, last do
      if #args[i] < 2 then return nil end
    end
    groups[#groups + 1] = { CUSTOMER_KEY + bucket, first, last_set, last }
    at = last + 1
  end
  return at
end

-- Check args of apply from args[at] on: due times. Returns {first, last of the time-customer
-- pairs, last of the customers without a timer}, and where to read on.
local function read_due(args, at)
  local sets, dels = count(args[at]), count(args[at + 1])
  if not sets or not dels then return nil end
  local first = at + 2
  local last_set = first + 2 * sets - 1
  local last = last_set + dels
  if last > #args then return nil end
  for i = first, last_set, 2 do
    if not count(args[i]) or args[i + 1] == '' then return nil end
  end
  for i = last_set + 1, last do
    if args[i] == '' then return nil end
  end
  return { first, last_set, last }, last + 1
end

-- Compare token, call number and every expected offset with meta; collects `o:topic, new` into
-- `writes`. Returns where to read on, or nil and the refusal.
local function read_position(keys, args, at, writes)
  local topics = count(args[at])
  if not topics then return nil, BAD_ARGUMENT end
  at = at + 1
  local fields, expected = { 'token', 'n' }, { args[1], args[2] }
  for _ = 1, topics do
    local topic, from, to = args[at], args[at + 1], count(args[at + 2])
    if not topic_ok(topic) or not to then return nil, BAD_ARGUMENT end
    if from ~= '' and (not count(from) or count(from) > to) then return nil, BAD_ARGUMENT end
    fields[#fields + 1] = 'o:' .. topic
    expected[#expected + 1] = from
    writes[#writes + 1] = 'o:' .. topic
    writes[#writes + 1] = args[at + 2]
    at = at + 3
  end
  if #fields > CHUNK then return nil, BAD_ARGUMENT end
  local stored = redis.call('HMGET', keys[1], unpack(fields))
  if stored[1] ~= expected[1] then return nil, FENCED end
  for i = 2, #fields do
    if (stored[i] or '') ~= expected[i] then return nil, OFFSET_MISMATCH end
  end
  return at
end

-- apply: KEYS all 19. ARGV, in this order:
--   token, number of this call, number up to which the outbox is trimmed ('' none),
--   records for the outbox ('' none), digest of the rule book ('' as before),
--   topics, then for each: topic, expected offset ('' none stored), new offset
--   output topics, then for each: topic, offset below which all is trimmed
--   groups of documents, then for each: bucket, sets, deletes, sets x (field, value),
--     deletes x field
--   due times, deletes, due times x (ms, customer), deletes x customer
-- Returns the number of this call, so that a caller knows that the reply is its own.
local function apply(keys, args)
  if #keys ~= 19 then return refuse(BAD_KEYS) end
  if #args < 10 then return refuse(BAD_ARGUMENT) end
  local number, trim_to = count(args[2]), count(args[3])
  if not number or number < 1 or args[2] == MAX or #args[5] > 128 then return refuse(BAD_ARGUMENT) end
  -- What this very call puts into the outbox is not published yet.
  if args[3] ~= '' and (not trim_to or trim_to >= number) then return refuse(BAD_ARGUMENT) end
  if not type_ok(keys, 1) then return refuse(BAD_TYPE) end

  local meta = {}
  local at, refusal = read_position(keys, args, 6, meta)
  if not at then return refuse(refusal) end
  at = read_trimmed(args, at, meta)
  if not at then return refuse(BAD_ARGUMENT) end
  local groups = {}
  at = read_documents(args, at, groups)
  if not at then return refuse(BAD_ARGUMENT) end
  local due
  due, at = read_due(args, at)
  if not due or at ~= #args + 1 then return refuse(BAD_ARGUMENT) end
  for _, group in ipairs(groups) do
    if not type_ok(keys, group[1]) then return refuse(BAD_TYPE) end
  end
  if not type_ok(keys, DUE_KEY) or not type_ok(keys, OUTBOX_KEY) then return refuse(BAD_TYPE) end

  -- The one command that can still refuse (its number must exceed the stream's last) goes first.
  if args[4] ~= '' then
    local added = redis.pcall('XADD', keys[OUTBOX_KEY], args[2] .. '-0', 'r', args[4])
    if type(added) == 'table' and added.err then
      return refuse('OUTBOX_ORDER the outbox already holds a later number')
    end
  end
  if trim_to then redis.call('XTRIM', keys[OUTBOX_KEY], 'MINID', '=', args[3] .. '-1') end
  for _, group in ipairs(groups) do
    each('HSET', keys[group[1]], args, group[2], group[3])
    each('HDEL', keys[group[1]], args, group[3] + 1, group[4])
  end
  each('ZADD', keys[DUE_KEY], args, due[1], due[2])
  each('ZREM', keys[DUE_KEY], args, due[2] + 1, due[3])
  if args[5] ~= '' then
    meta[#meta + 1] = 'book'
    meta[#meta + 1] = args[5]
  end
  meta[#meta + 1] = 'n'
  meta[#meta + 1] = string.format('%.0f', number + 1)
  each('HSET', keys[1], meta, 1, #meta)
  return args[2]
end

-- trim: KEYS meta, outbox; ARGV token, number up to which the outbox is trimmed, output topics,
-- then for each: topic, offset below which all is trimmed. Returns the number.
-- It deletes, so it is let through when memory is short: what was sent must be able to leave.
local function trim(keys, args)
  if #keys ~= 2 then return refuse(BAD_KEYS) end
  local meta = {}
  if #args < 3 or not count(args[2]) or read_trimmed(args, 3, meta) ~= #args + 1 then
    return refuse(BAD_ARGUMENT)
  end
  if not type_ok(keys, 1) then return refuse(BAD_TYPE) end
  local outbox = redis.call('TYPE', keys[2]).ok
  if outbox ~= 'none' and outbox ~= 'stream' then return refuse(BAD_TYPE) end
  local stored = redis.call('HMGET', keys[1], 'token', 'n')
  if stored[1] ~= args[1] then return refuse(FENCED) end
  if tonumber(stored[2]) <= tonumber(args[2]) then return refuse(OFFSET_MISMATCH) end
  redis.call('XTRIM', keys[2], 'MINID', '=', args[2] .. '-1')
  each('HSET', keys[1], meta, 1, #meta)
  return args[2]
end

redis.register_function('tsuide_1_claim', claim)
redis.register_function('tsuide_1_apply', apply)
redis.register_function {
  function_name = 'tsuide_1_trim', callback = trim, flags = { 'allow-oom' },
}
