-- wrk sends the pictures of a folder in turn: wrk -s post_pictures.lua URL -- FOLDER
local pictures, threads = {}, 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

function init(arguments)
  for path in io.popen('ls "' .. arguments[1] .. '"/*'):lines() do
    local file = io.open(path, "rb")
    pictures[#pictures + 1] = wrk.format("POST", nil, { ["Content-Type"] = "image/jpeg" }, file:read("*a"))
    file:close()
  end
  position = number * 97
  statuses = {}
end

function request()
  position = position + 1
  return pictures[position % #pictures + 1]
end

function response(status)
  statuses[status] = (statuses[status] or 0) + 1
end
