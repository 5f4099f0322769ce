-- What Paintover's menu scripts in DaVinci Resolve share. Lua 5.1 and LuaJIT.
--
-- Since 21.1 menu scripts of the free edition run without io, os.execute, require, debug and windows, and what they
-- print is not shown. So nothing here needs them: answers are Lua files that the runner appends to (read by loadfile);
-- requests go by a file and a background process where scripts may do that, else by Fusion's preferences.

local M = {}

-- Written in by `paintover install resolve`.
local FOLDER = "@FOLDER@" -- where requests and answers lie; "": in each user's own data folder
local RUNNER = { "@RUNNER@" } -- the program and arguments that take a request's file

local BIN = "Paintover"
local PREFERENCE = "Global.Paintover.Requests"
local KEPT_REQUESTS = 8
local ANSWER_SECONDS = 8
local EDIT_SECONDS = 6 -- how long Resolve knows no current item after an edit
local POLL_SECONDS = 0.5
local SAME_RATE = 0.005
local NUMBER = "%%0%d+d" -- finds the number's place in a sequence's pattern

-- The folder in this user's data folder, as the engine chooses that.
local function own_folder()
  local home = os.getenv("HOME") or ""
  local on_mac = bmd.fileexists("/System/Library/CoreServices/SystemVersion.plist")
  local data = os.getenv("LOCALAPPDATA") or on_mac and home .. "/Library/Application Support"
    or os.getenv("XDG_DATA_HOME") or home .. "/.local/share"
  return (os.getenv("PAINTOVER_DATA") or data .. "/paintover") .. "/resolve"
end

if FOLDER == "" then FOLDER = own_folder() end

-- Sentences -----------------------------------------------------------------------------------------------------------

-- Ends the script with a sentence for the artist.
local function refuse(sentence, ...)
  error({ sentence = select("#", ...) > 0 and sentence:format(...) or sentence }, 0)
end

-- The value of a call that a version of Resolve may not have: objects seem to have every method.
local function try(object, method, ...)
  local given = { ... }
  local ok, value = pcall(function() return object[method](object, unpack(given)) end)
  return ok and value or nil
end

-- Asks until there is an answer: Resolve knows none for seconds after an edit.
local function within(seconds, ask)
  local waited = 0
  while true do
    local found = ask()
    if found or waited >= seconds then return found end
    bmd.wait(0.25)
    waited = waited + 0.25
  end
end

-- Files of answers ----------------------------------------------------------------------------------------------------

-- Lines `event{…}` in order; an empty list where there is no such file, or a line of it is just being written.
local function events(name)
  local list = {}
  local chunk = loadfile(FOLDER .. "/" .. name .. ".lua")
  if chunk then
    setfenv(chunk, { event = function(one) list[#list + 1] = one end })
    if not pcall(chunk) then return {} end
  end
  return list
end

local function settings()
  local chosen = { bring = "take", finalize = false, follow_minutes = 120, output = "", method = "draft",
                   final_method = "best", editor = "" }
  local chunk = loadfile(FOLDER .. "/settings.lua")
  local ok, given
  if chunk then ok, given = pcall(setfenv(chunk, {})) end
  if ok and type(given) == "table" then
    for name, value in pairs(given) do chosen[name] = value end
  end
  if chosen.bring ~= "take" and chosen.bring ~= "track" then
    refuse('The setting bring is "%s" in %s/settings.lua; it is "take" or "track".', tostring(chosen.bring), FOLDER)
  end
  return chosen
end

-- Requests ------------------------------------------------------------------------------------------------------------

local ESCAPES = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function json(value)
  if type(value) == "string" then
    return '"' .. value:gsub('[%c"\\]', function(c) return ESCAPES[c] or ("\\u%04x"):format(c:byte()) end) .. '"'
  elseif type(value) == "number" then
    return value == math.floor(value) and ("%.0f"):format(value) or ("%.17g"):format(value)
  elseif type(value) ~= "table" then
    return tostring(value)
  end
  local parts = {}
  if #value > 0 then
    for i, one in ipairs(value) do parts[i] = json(one) end
    return "[" .. table.concat(parts, ",") .. "]"
  end
  for name, one in pairs(value) do parts[#parts + 1] = json(name) .. ":" .. json(one) end
  return "{" .. table.concat(parts, ",") .. "}"
end

local function on_windows() return FOLDER:match("^%a:[/\\]") ~= nil or FOLDER:match("^[/\\][/\\]") ~= nil end

-- One argument as the system's shell takes it. On Windows, what cmd would expand even inside quotes is refused.
function M.quote(argument, windows)
  if windows == nil then windows = on_windows() end
  if not windows then return "'" .. argument:gsub("'", [['\'']]) .. "'" end
  if argument:find('[%%"!\r\n]') then
    refuse('"%s" cannot be passed to a Windows program; install Paintover in a folder without %%, ! and ".', argument)
  end
  return '"' .. argument:gsub("\\+$", "%0%0") .. '"'
end

-- A command line that returns at once, for a Python that is not Resolve's: of its variables, those go.
function M.background(arguments, windows)
  if windows == nil then windows = on_windows() end
  local quoted = {}
  for i, one in ipairs(arguments) do quoted[i] = M.quote(one, windows) end
  local line = table.concat(quoted, " ")
  if windows then return 'set PYTHONHOME=& set PYTHONPATH=& start "" /b ' .. line .. " >NUL 2>&1" end
  return "env -u PYTHONHOME -u PYTHONPATH -u LD_LIBRARY_PATH " .. line .. " >/dev/null 2>&1 </dev/null &"
end

local function by_process(id, text)
  if type(io) ~= "table" or type(os.execute) ~= "function" then return false end
  local path = FOLDER .. "/requests/" .. id .. ".json"
  local file = io.open(path, "wb")
  if not file then -- a user's first of scripts for all users
    os.execute((on_windows() and "mkdir " or "mkdir -p ") .. M.quote(FOLDER .. "/requests"))
    file = io.open(path, "wb")
  end
  if not file then return false end
  local written = file:write(text)
  if not (file:close() and written) then return false end
  local line = {}
  for i, one in ipairs(RUNNER) do line[i] = one end
  line[#line + 1] = path
  os.execute(M.background(line))
  return true
end

-- The preferences' one text holds the last requests, so that two scripts in a row do not lose one.
local function by_preferences(id, text)
  local packed = "paintover1:" .. id .. ":" .. text:gsub(".", function(c) return ("%02x"):format(c:byte()) end)
  local kept = {}
  for one in tostring(fusion:GetPrefs(PREFERENCE) or ""):gmatch("paintover1:%S+") do kept[#kept + 1] = one end
  kept[#kept + 1] = packed
  while #kept > KEPT_REQUESTS do table.remove(kept, 1) end
  fusion:SetPrefs(PREFERENCE, table.concat(kept, " "))
  fusion:SavePrefs()
end

local requests, unanswered = 0, nil

-- Sends a request; its number once the runner has taken it, nil where none answers (`unanswered` tells why).
local function send(request)
  requests = requests + 1
  local id = ("%d-%06d-%d"):format(os.time(), math.floor(bmd.gettime() * 1e6 % 1e6), requests)
  request.id, request.at = id, os.time()
  local text = json(request)
  local started = by_process(id, text)
  if not started then by_preferences(id, text) end
  local taken = within(ANSWER_SECONDS, function()
    for _, one in ipairs(events("taken")) do
      if one.run == id then return true end
    end
  end)
  if taken then return id end
  unanswered = started and "Paintover does not answer; run `paintover install resolve` again."
    or "Paintover's engine does not run, which scripts of this edition need; start it with `paintover serve`, or for "
    .. "good with `paintover install service`."
end

local function current_timeline()
  local project = try(try(resolve, "GetProjectManager"), "GetCurrentProject")
  local timeline = project and project:GetCurrentTimeline()
  return timeline, project
end

-- A desktop notification by the runner; a marker under the playhead where no runner answers.
local function tell(sentence)
  print("Paintover: " .. sentence)
  if not unanswered and send({ ["do"] = "tell", sentence = sentence }) then return end
  pcall(function()
    local timeline = current_timeline()
    local rate = tonumber(tostring(timeline:GetSetting("timelineFrameRate")):match("[%d.]+"))
    local at = M.frames(timeline:GetCurrentTimecode(), rate) - M.frames(timeline:GetStartTimecode(), rate)
    timeline:DeleteMarkerByCustomData("paintover")
    timeline:AddMarker(at, "Red", "Paintover", sentence, 1, "paintover")
  end)
end

local function ask(request) return send(request) or refuse(unanswered) end

-- Reading the clip ----------------------------------------------------------------------------------------------------

-- Frames from midnight of a timecode, also of a drop-frame one (";").
function M.frames(timecode, rate)
  local h, m, s, mark, f = tostring(timecode):match("^(%d+):(%d+):(%d+)([:;.,])(%d+)$")
  if not h then refuse("Resolve gave the timecode '%s', which cannot be read.", tostring(timecode)) end
  local nominal, minutes = math.floor(rate + 0.5), h * 60 + m
  local count = (minutes * 60 + s) * nominal + f
  if mark ~= ":" then count = count - math.floor(nominal / 15 + 0.5) * (minutes - math.floor(minutes / 10)) end
  return count
end

-- "/plates/a.[0101-0148].exr": the pattern and its first number. nil for one file.
function M.sequence(path)
  local head, first, last, tail = path:match("^(.*)%[(%d+)%-(%d+)%](.-)$")
  if not head or bmd.fileexists(path) then return nil end
  if (head .. tail):find("[%%#@]") then
    refuse("The name of %s holds %%, # or @, which stand for numbers; rename it.", path)
  end
  return head .. ("%%0%dd"):format(#first) .. tail, tonumber(first), tonumber(last)
end

local KINDS = {
  { "compound", "is a compound clip; open it in the timeline and paint a clip inside it" },
  { "multicam", "is a multicam clip; flatten it first" },
  { "timeline", "is a nested timeline; open it and paint a clip inside it" },
  { "fusion", "is a Fusion clip; paint the clip that it was made of" },
  { "generator", "is a generator, which has no media file" },
  { "title", "is a title, which has no media file" },
  { "still", "is a still, which has nothing to carry an edit through" },
}

-- Resolve's names for encodings, and OpenColorIO's. A clip of any other is computed in as its file is.
local COLOURS = {
  { "logc4", "ARRI LogC4" }, { "logc", "ARRI LogC3 (EI800)" },
  { "s%-gamut3%.cine.*s%-log3", "S-Log3 S-Gamut3.Cine" }, { "s%-gamut3.*s%-log3", "S-Log3 S-Gamut3" },
  { "log3g10", "Log3G10 REDWideGamutRGB" }, { "v%-log", "V-Log V-Gamut" }, { "acescct", "ACEScct" },
  { "acescg", "ACEScg" }, { "aces2065", "ACES2065-1" }, { "davinci.*intermediate", "DaVinci Intermediate WideGamut" },
}

function M.colorspace(name)
  for _, pair in ipairs(COLOURS) do
    if tostring(name):lower():find(pair[1]) then return pair[2] end
  end
  return ""
end

local function check_kind(media, name, path)
  local kind = tostring(media:GetClipProperty("Type") or ""):lower()
  for _, pair in ipairs(KINDS) do
    if kind:find(pair[1], 1, true) then refuse("'%s' %s.", name, pair[2]) end
  end
  if path == "" then
    refuse("'%s' has no media file of its own (a compound clip, a title, a generator?); paint on a clip that has one.",
      name)
  end
end

local function check_rate(media, timeline, name)
  local text = tostring(timeline:GetSetting("timelineFrameRate"))
  local own, whole = tonumber((tostring(media:GetClipProperty("FPS")):match("[%d.]+"))), tonumber(text:match("[%d.]+"))
  if not own or not whole then refuse("Resolve does not tell the frame rate of '%s'.", name) end
  if math.abs(own - whole) > SAME_RATE then
    refuse("'%s' has %g frames a second in a timeline of %g, so Resolve skips or repeats frames; "
      .. "paint it in a timeline of its own rate.", name, own, whole)
  end
  return whole
end

-- The offset of the item's first frame in its media. Of equal rates GetLeftOffset is exact; GetSourceStartFrame may be
-- off by one, and is there to find what makes the two differ.
local function check_speed(item, name, first)
  local duration, offset = item:GetDuration(), item:GetLeftOffset()
  local from, to, speed = item:GetSourceStartFrame(), item:GetSourceEndFrame(), tonumber(try(item, "GetSpeed"))
  if speed and speed ~= 1 and speed ~= 100 or from and to and math.abs(to - from - duration) > 1 then
    refuse("'%s' is retimed, so its frames are not those of its file; paint it before it is retimed.", name)
  end
  if from and math.abs(from - offset) > 1 and math.abs(from - offset - first) > 1 then
    refuse("'%s' starts at frame %d of its file by one account and at %d by another (a subclip?); "
      .. "paint it from the whole clip.", name, from, offset)
  end
  return offset, duration
end

local function known(id) return (id:gsub("[^%w%-]", "_"):sub(1, 80)) end

-- Whether a path that Resolve gave is that output's; on Windows the two may differ in their slashes.
local function is_output(path, output)
  local function plain(one) return one and on_windows() and one:gsub("\\", "/"):lower() or one end
  return path ~= "" and (plain(path) == plain(output) or plain(M.sequence(path)) == plain(output))
end

-- What a result that an item shows was made of: its source, its frames there, its clip's log. nil for any other path.
local function made_of(path)
  for _, one in ipairs(events("results")) do
    if is_output(path, one.output) then return one end
  end
end

-- The facts of the clip under the playhead; refuses what could only be done wrong.
local function clip_under_playhead()
  local timeline, project = current_timeline()
  if not project then refuse("No project is open.") end
  if not timeline then refuse("No timeline is open; open the one with the clip to paint.") end
  local item = within(EDIT_SECONDS, function() return timeline:GetCurrentVideoItem() end)
  if not item then refuse("There is no clip under the playhead; park it on the clip to paint.") end
  local name, media = tostring(item:GetName()), item:GetMediaPoolItem()
  if not media then refuse("'%s' is a title or a generator, which has no media file.", name) end
  local path = tostring(media:GetClipProperty("File Path") or "")
  check_kind(media, name, path)
  local rate = check_rate(media, timeline, name)
  local source, first = M.sequence(path)
  local offset, duration = check_speed(item, name, first or 0)
  local at = timeline:GetStartFrame() + M.frames(timeline:GetCurrentTimecode(), rate)
    - M.frames(timeline:GetStartTimecode(), rate) - item:GetStart()
  if at < 0 or at >= duration then refuse("The playhead is not on '%s'; park it on the clip to paint.", name) end
  local made = made_of(path)
  local base = offset + (made and made.first or first or 0)
  local clip = { uid = made and made.clip or known(item:GetUniqueId()), item = item:GetUniqueId(), name = name,
                 source = source or path, frame = base + at, first = base, last = base + duration - 1,
                 start = item:GetStart(),
                 colorspace = M.colorspace(media:GetClipProperty("Input Color Space")) }
  if made then clip.name, clip.source, clip.colorspace = made.name, made.source, made.colorspace end
  return clip
end

-- Where results go: beside the source, or where the setting says.
local function output_for(clip, folder)
  local place, file = clip.source:match("^(.*[/\\])([^/\\]*)$")
  if not place then refuse("The media file %s has no whole path.", clip.source) end
  place = folder ~= "" and folder .. "/" or place .. "paintover/"
  local stem = file:gsub("%.[^.]*$", "")
  if not file:find(NUMBER) then return place .. stem .. "_paintover.mov" end
  stem = stem:gsub("[._%- ]*" .. NUMBER, "")
  return place .. (stem == "" and "frames" or stem) .. "_paintover/" .. file
end

-- Bringing results back -----------------------------------------------------------------------------------------------

local function item_of(clip, timeline)
  for track = 1, timeline:GetTrackCount("video") do
    for _, item in ipairs(timeline:GetItemListInTrack("video", track) or {}) do
      if item:GetUniqueId() == clip.item then return item end
    end
  end
  refuse("'%s' is no longer in this timeline; open the timeline that it was painted in.", clip.name)
end

local function own_bin(pool)
  local root = pool:GetRootFolder()
  for _, folder in ipairs(root:GetSubFolderList() or {}) do
    if folder:GetName() == BIN then return folder end
  end
  return pool:AddSubFolder(root, BIN) or refuse('The bin "%s" cannot be made; is the project read-only?', BIN)
end

local function shows(media, output)
  return media ~= nil and is_output(tostring(media:GetClipProperty("File Path") or ""), output)
end

-- The result in the media pool, in a bin of its own; imported once. The bin that the artist has open stays open.
local function import(pool, result)
  local open = pool:GetCurrentFolder()
  local bin = own_bin(pool)
  if open then pool:SetCurrentFolder(open) end -- a new bin is opened as it is made
  for _, media in ipairs(bin:GetClipList() or {}) do
    if shows(media, result.output) then return media end
  end
  pool:SetCurrentFolder(bin)
  local what = { result.output }
  if result.output:find(NUMBER) then
    what = { { FilePath = result.output, StartIndex = result.first, EndIndex = result.last } }
  end
  local imported = pool:ImportMedia(what)
  if open then pool:SetCurrentFolder(open) end
  local media = imported and imported[1]
  if not media then refuse("Resolve does not import %s; is the file still there?", result.output) end
  return media
end

local function check_length(media, result)
  local count, due = tonumber(media:GetClipProperty("Frames")), result.last - result.first + 1
  if count and count ~= due then
    refuse("Resolve reads %d frames of %s, which has %d; it was not put on the timeline.", count, result.output, due)
  end
end

local function as_take(item, media, clip, result, finalize)
  for index = 1, item:GetTakesCount() do
    if shows((item:GetTakeByIndex(index) or {}).mediaPoolItem, result.output) then
      item:SelectTakeByIndex(index)
      return "take " .. index
    end
  end
  local before = item:GetDuration()
  if not item:AddTake(media) then
    refuse("Resolve adds no take to '%s'; it may be locked. %s is in the bin \"%s\".", clip.name, result.output, BIN)
  end
  local index = item:GetTakesCount()
  item:SelectTakeByIndex(index)
  if item:GetDuration() ~= before then
    item:SelectTakeByIndex(1)
    item:DeleteTakeByIndex(index)
    refuse("The take would have changed the length of '%s', so it was taken away again; %s is in the bin \"%s\".",
      clip.name, result.output, BIN)
  end
  if finalize then item:FinalizeTake() end
  return "take " .. index
end

-- On a new track above all: an append onto another item is dropped without a word, so it is looked for afterwards.
local function on_track(timeline, pool, media, clip, result)
  local count = result.last - result.first + 1
  for track = 1, timeline:GetTrackCount("video") do
    for _, item in ipairs(timeline:GetItemListInTrack("video", track) or {}) do
      if item:GetStart() == clip.start and shows(item:GetMediaPoolItem(), result.output) then
        return "track " .. track
      end
    end
  end
  timeline:AddTrack("video")
  local track = timeline:GetTrackCount("video")
  timeline:SetTrackName("video", track, BIN)
  pool:AppendToTimeline({ { mediaPoolItem = media, startFrame = 0, endFrame = count, mediaType = 1, trackIndex = track,
                            recordFrame = clip.start } }) -- endFrame is exclusive, recordFrame the timeline's own
  local placed = within(EDIT_SECONDS, function()
    for _, item in ipairs(timeline:GetItemListInTrack("video", track) or {}) do
      if item:GetStart() == clip.start then return item end
    end
  end)
  if not placed or placed:GetDuration() ~= count then
    refuse("Resolve did not put %s over '%s'; it is in the bin \"%s\".", result.output, clip.name, BIN)
  end
  return "track " .. track
end

local function bring(clip, result, chosen)
  local timeline, project = current_timeline()
  if not timeline then refuse("No timeline is open; open the one with '%s'.", clip.name) end
  local item, pool = item_of(clip, timeline), project:GetMediaPool()
  if item:GetDuration() ~= result.last - result.first + 1 then
    refuse("'%s' was trimmed since it was painted: it shows %d frames, the result has %d; paint it again.",
      clip.name, item:GetDuration(), result.last - result.first + 1)
  end
  clip.start = item:GetStart()
  local media = import(pool, result)
  check_length(media, result)
  local place
  if chosen.bring == "take" then
    place = as_take(item, media, clip, result, chosen.finalize)
  else
    place = on_track(timeline, pool, media, clip, result)
  end
  tell(("%s is on '%s' as %s."):format(result.output:match("[^/\\]*$"), clip.name, place))
end

-- Watches a painting or a propagation and brings each result that is done, until it ends, the same is asked again, or
-- the time is up. Resolve's interface stays free meanwhile.
local function follow(clip, run, chosen)
  local seen, own, ends = 0, nil, os.time() + chosen.follow_minutes * 60
  while os.time() < ends do
    local list = events("clips/" .. clip.uid)
    for index = seen + 1, #list do
      local one = list[index]
      seen = index
      if one.run == run then
        if one.what == "started" then
          own = one
        elseif one.what == "done" then
          local ok, problem = pcall(bring, clip, one, chosen)
          if not ok then tell(type(problem) == "table" and problem.sentence or tostring(problem)) end
        elseif one.what == "error" then
          tell(one.message)
        elseif one.what == "ended" then
          return
        end
      elseif own and one.what == "started" and one.verb == own.verb and one.frame == own.frame then
        return
      end
    end
    bmd.wait(POLL_SECONDS)
  end
end

-- The menu's four entries ---------------------------------------------------------------------------------------------

local ACTIONS = {}

local function start(verb, clip, chosen, more)
  local request = { ["do"] = verb, clip = clip.uid, name = clip.name, source = clip.source, first = clip.first,
                    last = clip.last, colorspace = clip.colorspace, output = output_for(clip, chosen.output) }
  for name, value in pairs(more) do request[name] = value end
  follow(clip, ask(request), chosen)
end

function ACTIONS.paint()
  local chosen, clip = settings(), clip_under_playhead()
  start("paint", clip, chosen, { frame = clip.frame, method = chosen.method, editor = chosen.editor })
end

function ACTIONS.propagate()
  local chosen, clip, painted = settings(), clip_under_playhead(), {}
  for _, one in ipairs(events("clips/" .. clip.uid)) do
    if one.what == "saved" then painted[one.frame] = one.path end
  end
  local paintings = {}
  for frame, path in pairs(painted) do
    if frame >= clip.first and frame <= clip.last then paintings[#paintings + 1] = { frame = frame, path = path } end
  end
  -- Without any the command carries what the OpenFX effect on the clip propagated last, or says that there is nothing.
  start("propagate", clip, chosen, { paintings = paintings, method = chosen.final_method })
end

function ACTIONS.bring()
  local chosen, clip, result = settings(), clip_under_playhead(), nil
  for _, one in ipairs(events("clips/" .. clip.uid)) do
    if one.what == "done" then result = one end
  end
  if not result then refuse("There is no result of '%s' yet; `Open monitor` shows how far it is.", clip.name) end
  bring(clip, result, chosen)
end

function ACTIONS.monitor() ask({ ["do"] = "monitor" }) end

-- Runs one of the menu's entries: "paint", "propagate", "bring" or "monitor". Returns whether it went well.
function M.run(action)
  local ok, problem = pcall(ACTIONS[action])
  if not ok then
    tell(type(problem) == "table" and problem.sentence or "Internal error in the script: " .. tostring(problem))
  end
  return ok
end

return M
