-- SPDX-License-Identifier: Apache-2.0
--
-- authentiq.lua asks a gate about the request that is being processed: Caddy with
-- `authentiq { forward_auth on }`. Only 204 lets it go on; any other answer is the
-- answer to the client. HAProxy 2.5 or newer, which can ask from Lua.

-- What belongs to one connection, or is about the length of a body.
local hop_by_hop = {
	["connection"] = true, ["keep-alive"] = true, ["proxy-connection"] = true, ["te"] = true, ["trailer"] = true,
	["transfer-encoding"] = true, ["upgrade"] = true, ["content-length"] = true, ["expect"] = true, ["http2-settings"] = true,
}

-- The headers of the gate's that the application gets. A preset's names, and those of
-- `header` lines, belong here too, in lower case.
local function is_identity(name)
	return name:sub(1, 12) == "x-authentiq-"
end

-- HAProxy counts values from 0.
local function each(headers, visit)
	for name, values in pairs(headers or {}) do
		for i = 0, #values do
			if values[i] then
				visit(name:lower(), values[i])
			end
		end
	end
end

core.register_action("authentiq", { "http-req" }, function(txn, gate)
	local ask = {}
	each(txn.http:req_get_headers(), function(name, value)
		if not hop_by_hop[name] then
			ask[name] = ask[name] or {}
			table.insert(ask[name], value)
		end
	end)
	ask["x-forwarded-for"] = { txn.f:src() }
	ask["x-forwarded-method"] = { txn.f:method() }
	ask["x-forwarded-proto"] = { txn.f:ssl_fc() == 1 and "https" or "http" }
	ask["x-forwarded-host"] = ask["host"]
	ask["x-forwarded-uri"] = { txn.f:pathq() }

	local answer = core.httpclient():get { url = gate, headers = ask, timeout = 10000 }
	if not answer or answer.status ~= 204 then
		local status = answer and answer.status or 0
		if status < 300 or status > 599 then -- nobody was there, or it was no gate
			status = 502
			answer = nil
		end
		local reply = txn:reply { status = status }
		reply:add_header("cache-control", "no-store")
		if answer then
			reply:del_header("cache-control")
			each(answer.headers, function(name, value)
				if not hop_by_hop[name] then
					reply:add_header(name, value)
				end
			end)
			if txn.f:method() ~= "HEAD" then
				reply:set_body(answer.body or "")
			end
		end
		txn:done(reply)
		return
	end

	-- The client's own were removed in the configuration; its cookies come back without
	-- the gate's: who has those is the user.
	txn.http:req_del_header("cookie")
	each(answer.headers, function(name, value)
		if is_identity(name) or name == "cookie" then
			-- There may be no room for it (tune.maxrewrite).
			if txn.http:req_set_header(name, value) == false then
				error(name .. " could not be told to the application")
			end
		end
		local line = name:match("^authentiq%-set%-cookie%-(%d)$")
		if line then
			txn:set_var("txn.authentiq_set_cookie_" .. line, value)
		end
	end)
	txn:set_var("txn.authentiq_in", true)
end, 1)
