-- A stand-in of DaVinci Resolve's documented objects, with the traps that were met in the real one.
--
--   standin.lua DESCRIPTION.lua SCRIPT.lua
--
-- runs a menu script, then prints the state of things as JSON. The description: see `Timeline` in standin.py.
--
-- Traps: an unknown method is there until it is called; no current item for seconds after an edit; GetSourceStartFrame
-- can be off by one; media of a sequence is "a.[0001-0010].exr"; ImportMedia goes to the folder that is open;
-- AppendToTimeline takes an exclusive end and an absolute place, and drops overlaps without a word, its answer all the
-- same having an item in it, without an id. The free edition's sandbox: `sandbox = true`.

local describe = dofile(arg[1])
local script = arg[2]
local write, open, popen, execute, getenv = io.write, io.open, io.popen, os.execute, os.getenv
local clock = 0
local begun = os.time() % 1000 + tonumber(tostring({}):match("0x(%x+)"), 16) % 1e6 / 1e6 -- of each run its own
local calls, printed = {}, {}

local function class(name, methods)
  return setmetatable(methods, {
    __index = function(_, method)
      if not tostring(method):match("^%u") then return nil end
      return function() error(name .. " has no " .. method) end -- known to be so only when it is called
    end,
  })
end

local function object(kind, facts) return setmetatable(facts, { __index = kind }) end

-- Media ---------------------------------------------------------------------------------------------------------------

local Media = class("MediaPoolItem", {
  GetClipProperty = function(self, name) return self.properties[name] end,
  GetName = function(self) return self.properties["Clip Name"] end,
})

local function media(path, facts)
  local properties = { ["File Path"] = path, ["Clip Name"] = path:match("[^/\\]*$"), Type = "Video + Audio" }
  for name, value in pairs(facts or {}) do properties[name] = value end
  return object(Media, { properties = properties })
end

local Folder = class("Folder", {
  GetName = function(self) return self.name end,
  GetSubFolderList = function(self) return self.folders end,
  GetClipList = function(self) return self.clips end,
})

local function folder(name) return object(Folder, { name = name, folders = {}, clips = {} }) end

local root = folder("Master")
local current = root
root.folders[1] = folder("Rushes")
if describe.open_bin then current = root.folders[1] end

-- The timeline --------------------------------------------------------------------------------------------------------

local edited_at = -100
local function edited() edited_at = clock end

local ids = 0
local Item = class("TimelineItem", {
  GetName = function(self) return self.name end,
  GetUniqueId = function(self) return self.id end,
  GetMediaPoolItem = function(self) return self.media end,
  GetStart = function(self) return self.start end,
  GetEnd = function(self) return self.start + self.duration end,
  GetDuration = function(self) return self.duration end,
  GetLeftOffset = function(self) return self.offset end,
  GetSourceStartFrame = function(self) return self.source_start or self.offset end,
  GetSourceEndFrame = function(self) return self.source_end or self.offset + self.duration - 1 end,
  GetTakesCount = function(self) return self.takes and #self.takes or 0 end,
  GetSelectedTakeIndex = function(self) return self.takes and self.take or 0 end,
  GetTakeByIndex = function(self, index)
    local take = self.takes and self.takes[index]
    return take and { mediaPoolItem = take.media, startFrame = 0, endFrame = take.duration - 1 } or {}
  end,
  AddTake = function(self, item)
    if describe.locked then return false end
    self.takes = self.takes or { { media = self.media, duration = self.duration, offset = self.offset } }
    self.takes[#self.takes + 1] = { media = item, offset = 0,
                                    duration = describe.take_length or tonumber(item:GetClipProperty("Frames")) }
    self:SelectTakeByIndex(#self.takes)
    return true
  end,
  SelectTakeByIndex = function(self, index)
    local take = self.takes and self.takes[index]
    if not take then return false end
    self.take, self.media, self.duration, self.offset = index, take.media, take.duration, take.offset
    edited()
    return true
  end,
  DeleteTakeByIndex = function(self, index)
    if not self.takes or index == self.take then return false end
    table.remove(self.takes, index)
    return true
  end,
  FinalizeTake = function(self) self.takes, self.take = nil, nil return true end,
})
if describe.speed then Item.GetSpeed = function(self) return describe.speed end end

local tracks = {}
local names = {}
for index, track in ipairs(describe.tracks) do
  tracks[index], names[index] = {}, "Video " .. index
  for _, one in ipairs(track) do
    ids = ids + 1
    local pool_item = one.path and media(one.path, one.properties) or nil
    if pool_item then root.clips[#root.clips + 1] = pool_item end
    one.media, one.id = pool_item, one.id or ("0a1b-%d"):format(ids)
    tracks[index][#tracks[index] + 1] = object(Item, one)
  end
end

local markers = {}
local Timeline = class("Timeline", {
  GetName = function() return "Timeline 1" end,
  GetSetting = function(_, name) return name == "timelineFrameRate" and describe.rate or "" end,
  GetCurrentVideoItem = function()
    if clock - edited_at < (describe.deaf or 2) then return nil end
    for index = #tracks, 1, -1 do
      for _, item in ipairs(tracks[index]) do
        if item.start <= describe.playhead and describe.playhead < item.start + item.duration then return item end
      end
    end
  end,
  GetCurrentTimecode = function() return describe.timecode end,
  GetStartTimecode = function() return describe.start_timecode end,
  GetStartFrame = function() return describe.start_frame end,
  GetTrackCount = function(_, kind) return kind == "video" and #tracks or 0 end,
  GetItemListInTrack = function(_, kind, index) return kind == "video" and tracks[index] or nil end,
  AddTrack = function()
    tracks[#tracks + 1], names[#names + 1] = {}, "Video " .. #names + 1
    edited()
    return true
  end,
  SetTrackName = function(_, _, index, name) names[index] = name return true end,
  AddMarker = function(_, frame, colour, name, note, length, custom)
    markers[#markers + 1] = { frame = frame, colour = colour, name = name, note = note, custom = custom }
    return true
  end,
  DeleteMarkerByCustomData = function(_, custom)
    for index = #markers, 1, -1 do if markers[index].custom == custom then table.remove(markers, index) end end
    return true
  end,
})
local timeline = object(Timeline, {})

-- The media pool ------------------------------------------------------------------------------------------------------

local function facts_of(path, count)
  local facts = { FPS = describe.imported_rate or describe.rate, Frames = tostring(count), Type = "Video" }
  return media(path, facts)
end

local Pool = class("MediaPool", {
  GetRootFolder = function() return root end,
  GetCurrentFolder = function() return current end,
  SetCurrentFolder = function(_, one) current = one return true end,
  AddSubFolder = function(_, parent, name)
    local made = folder(name)
    parent.folders[#parent.folders + 1] = made
    current = made -- so does Resolve
    return made
  end,
  ImportMedia = function(_, list)
    local made = {}
    for _, one in ipairs(list) do
      calls[#calls + 1] = "ImportMedia"
      if type(one) == "table" then
        local digits = one.FilePath:match("%%0(%d+)d")
        local range = ("[%0" .. digits .. "d-%0" .. digits .. "d]"):format(one.StartIndex, one.EndIndex)
        local path = one.FilePath:gsub("%%0%d+d", range)
        made[#made + 1] = facts_of(path, describe.imported or one.EndIndex - one.StartIndex + 1)
      else
        local file = open(one, "rb")
        if not file then return nil end
        file:close()
        made[#made + 1] = facts_of(one, describe.imported or describe.tracks[1][1].duration)
      end
      current.clips[#current.clips + 1] = made[#made]
    end
    return made
  end,
  AppendToTimeline = function(_, list)
    local placed = {}
    for _, one in ipairs(list) do
      calls[#calls + 1] = "AppendToTimeline"
      local length = one.endFrame - one.startFrame -- exclusive
      local free = not describe.dropped
      for _, item in ipairs(tracks[one.trackIndex]) do
        free = free and (one.recordFrame >= item:GetEnd() or one.recordFrame + length <= item.start)
      end
      ids = ids + 1
      local made = object(Item, { name = one.mediaPoolItem:GetName(), media = one.mediaPoolItem,
                                  offset = one.startFrame, start = one.recordFrame, duration = length,
                                  id = ("0a1b-%d"):format(ids) })
      if free then table.insert(tracks[one.trackIndex], made) end
      placed[#placed + 1] = object(Item, { name = made.name }) -- an item without an id
      edited()
    end
    return placed
  end,
})
local pool = object(Pool, {})

local Project = class("Project", {
  GetCurrentTimeline = function() return not describe.no_timeline and timeline or nil end,
  GetMediaPool = function() return pool end,
  GetSetting = function() return "" end,
})
local Manager = class("ProjectManager", {
  GetCurrentProject = function() return not describe.no_project and object(Project, {}) or nil end,
})

resolve = object(class("Resolve", { GetProjectManager = function() return object(Manager, {}) end }), {})

-- Fusion and bmd ------------------------------------------------------------------------------------------------------

local preferences = {}
fusion = object(class("Fusion", {
  GetPrefs = function(_, name) return preferences[name] end,
  SetPrefs = function(_, name, value) preferences[name] = value end,
  SavePrefs = function()
    calls[#calls + 1] = "SavePrefs"
    if not describe.preferences then return end
    local file = assert(open(describe.preferences, "w"))
    file:write("{\n\tGlobal = {\n\t\tPaintover = {\n")
    for name, value in pairs(preferences) do file:write(("\t\t\t%s = %q,\n"):format(name:match("[^.]*$"), value)) end
    file:write("\t\t},\n\t},\n}\n")
    file:close()
  end,
}), {})
fu, app = fusion, fusion

bmd = {
  wait = function(seconds)
    clock = clock + seconds
    if describe.real_time then execute("sleep " .. seconds) end
  end,
  gettime = function() return clock + begun end,
  fileexists = function(path)
    local file = open(path, "rb")
    if file then file:close() end
    return file ~= nil
  end,
}

-- The run -------------------------------------------------------------------------------------------------------------

local real_print, real_time = print, os.time
print = function(line) printed[#printed + 1] = tostring(line) end
if not describe.real_time then os.time = function() return real_time() + math.floor(clock) end end
if describe.sandbox then
  io, require, package, debug, arg, ffi, jit = nil, nil, nil, nil, nil, nil, nil
  os = { clock = os.clock, date = os.date, difftime = os.difftime, getenv = os.getenv, time = os.time,
         tmpname = os.tmpname }
end

local chunk, wrong = loadfile(script)
if not chunk then error(wrong) end
local ok, problem = pcall(chunk)

local function json(value)
  if type(value) == "string" then
    return '"' .. value:gsub('[%c"\\]', function(c) return ("\\u%04x"):format(c:byte()) end) .. '"'
  elseif type(value) ~= "table" then
    return tostring(value)
  end
  local parts = {}
  if #value > 0 or next(value) == nil then
    for i, one in ipairs(value) do parts[i] = json(one) end
    return "[" .. table.concat(parts, ",") .. "]"
  end
  for name, one in pairs(value) do parts[#parts + 1] = json(name) .. ":" .. json(one) end
  return "{" .. table.concat(parts, ",") .. "}"
end

local function shown(item)
  local takes = {}
  for index, take in ipairs(item.takes or {}) do takes[index] = take.media:GetClipProperty("File Path") end
  return { name = item.name, start = item.start, duration = item.duration, takes = takes, take = item.take or 0,
           path = item.media and item.media:GetClipProperty("File Path") or "" }
end

local told = { tracks = {}, names = names, bins = {}, markers = markers, calls = calls, printed = printed,
               open_bin = current.name, failed = ok and "" or tostring(problem) }
for index, track in ipairs(tracks) do
  told.tracks[index] = {}
  for place, item in ipairs(track) do told.tracks[index][place] = shown(item) end
end
for index, bin in ipairs(root.folders) do
  told.bins[index] = { name = bin.name, clips = {} }
  for place, clip in ipairs(bin.clips) do told.bins[index].clips[place] = clip:GetClipProperty("File Path") end
end
write(json(told), "\n")
