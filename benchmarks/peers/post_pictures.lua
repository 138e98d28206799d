-- wrk sends the pictures of a folder in turn, from another start in each thread, and says what statuses came back:
--   wrk -s post_pictures.lua URL -- FOLDER
local threads = {}

function setup(thread)
  thread:set("number", #threads)
  table.insert(threads, thread)
end

function init(arguments)
  pictures, statuses = {}, ""
  counts = {}
  for path in io.popen('ls "' .. arguments[1] .. '"/*'):lines() do
    local file = io.open(path, "rb")
    pictures[#pictures + 1] = wrk.format("POST", nil, { ["Content-Type"] = "image/jpeg" }, file:read("*a"))
    file:close()
  end
  position = number * 97
end

function request()
  position = position + 1
  return pictures[position % #pictures + 1]
end

function response(status)
  counts[status] = (counts[status] or 0) + 1
  statuses = ""
  for code, count in pairs(counts) do statuses = statuses .. code .. "=" .. count .. " " end
end

function done(summary, latency)
  local total = {}
  for _, thread in ipairs(threads) do
    for code, count in thread:get("statuses"):gmatch("(%d+)=(%d+)") do total[code] = (total[code] or 0) + count end
  end
  for code, count in pairs(total) do io.write("status ", code, " ", count, "\n") end
  io.write("seconds ", summary.duration / 1e6, "\n")
  io.write("p50 ", latency:percentile(50) / 1e3, "\n")
  io.write("p99 ", latency:percentile(99) / 1e3, "\n")
  local errors = summary.errors
  io.write("errors ", errors.connect + errors.read + errors.write + errors.timeout, "\n")
end
