-- Lets another language call the stand-in's objects: each line is a Lua expression over `object`, answered in JSON with
-- `{"object": N}` for objects. Ends with its input.
local objects, numbers = {}, {}

local function number_of(value)
  if not numbers[value] then
    objects[#objects + 1] = value
    numbers[value] = #objects
  end
  return numbers[value]
end

local function json(value)
  if type(value) == "string" then
    return '"' .. value:gsub('[%c"\\]', function(c) return ("\\u%04x"):format(c:byte()) end) .. '"'
  elseif type(value) ~= "table" then
    return value == nil and "null" or tostring(value)
  elseif getmetatable(value) then
    return '{"object":' .. number_of(value) .. "}"
  end
  local parts = {}
  if #value > 0 then
    for i, one in ipairs(value) do parts[i] = json(one) end
    return "[" .. table.concat(parts, ",") .. "]"
  end
  for name, one in pairs(value) do parts[#parts + 1] = json(name) .. ":" .. json(one) end
  return next(value) == nil and "[]" or "{" .. table.concat(parts, ",") .. "}"
end

number_of(resolve)
local input, output = io.stdin, io.stdout
for line in input:lines() do
  local chunk = assert(loadstring("return " .. line))
  setfenv(chunk, { object = function(number) return objects[number] end, wait = bmd.wait })
  local ok, value = pcall(chunk)
  output:write(ok and '{"value":' .. json(value) .. "}" or '{"missing":' .. json(tostring(value)) .. "}", "\n")
  output:flush()
end
