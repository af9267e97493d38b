// SPDX-License-Identifier: Apache-2.0
// The snippet of caddy-authentiq, for pages of its site. How to use it is in docs/pages.md.
(() => {
	"use strict";
	if (Object.hasOwn(window, "authentiq") && typeof authentiq.subscribe == "function") return authentiq.bind?.();

	// A page's <img name=currentScript> stands before the document's own, so the prototype is asked.
	const script = Object.getOwnPropertyDescriptor(Document.prototype, "currentScript").get.call(document) ?? document.querySelector("script.authentiq-snippet[type=module]");
	const home = script?.src && new URL(".", script.src);
	const key = "authentiq " + home, fromPopup = "#authentiq-popup";
	const listeners = new Map(), said = new Map(), contents = new WeakMap(), tags = new Map(), filled = new WeakMap();
	let memory, user; // whom this tab knows to be signed in, over page loads; undefined where it may keep nothing
	let profile, answer, failing, stopped, asking, again, timer, channel, asked = 0, pause = 30e3;

	const attempt = (act, value) => {
		try {
			return act(value);
		} catch (error) {
			reportError(error);
		}
	};
	const emit = (event, value) => {
		said.set(event, value);
		for (const listener of [...(listeners.get(event) ?? [])]) listener(value);
	};
	const fail = (error, error_description) => {
		if (failing == error) return;
		failing = error;
		emit("error", { error, error_description });
	};
	const stop = why => {
		stopped = true;
		console.error("authentiq.js: " + why);
		fail("client_error", why);
	};

	// What `session` tells, by the names that claims have in OpenID Connect. No assignment: a claim may be called __proto__.
	const claims = ({ provider, uid: sub, info, extra, ...rest }) => {
		const { first_name: given_name, last_name: family_name, phone: phone_number, location: address, geolocation, ...more } = info ?? {};
		const all = { ...rest, ...more, ...extra, sub, given_name, family_name, phone_number, address, "aq:location": geolocation };
		return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
	};
	const member = (object, name) => (object && typeof object == "object" && Object.hasOwn(object, name) ? object[name] : undefined);
	const text = claim => {
		const value = member(profile, claim) ?? claim.split(".").reduce(member, profile);
		return String((typeof value == "object" ? member(value, "formatted") : value) ?? "");
	};

	const fill = element => {
		const value = profile ? text(element.getAttribute("data-authentiq-profile-bind")) : "", before = filled.get(element);
		if (!profile && before === undefined) return;
		if (!element.matches("input, textarea, select")) {
			if (!element.matches("script, style")) element.textContent = value;
		} else if (element.value == (before ?? "")) element.value = value;
		else return; // somebody has typed
		filled.set(element, element.value ?? value);
	};
	const option = (button, name) => button?.dataset[name] ?? tags.get(button)?.dataset[name] ?? script.dataset[name];
	const label = button => {
		if (!contents.has(button)) contents.set(button, [...button.childNodes]);
		const claim = option(button, "signOutClaim"), theme = option(button, "theme"), own = contents.get(button);
		if (profile) button.textContent = `${option(button, "signOutText") ?? "Sign out"} ${claim ? text(claim) : ""}`.trim();
		else button.replaceChildren(...(option(button, "signInText") ? [option(button, "signInText")] : own.length ? own : ["Sign in"]));
		if (/^[\w-]+$/.test(theme ?? "")) button.classList.add("authentiq-" + theme);
		button.classList.toggle("authentiq-signed-in", !!profile);
	};
	const each = (selector, act) => attempt(() => document.querySelectorAll(selector).forEach(element => attempt(act, element)));
	const bind = () => {
		if (answer === undefined) return; // nobody knows yet
		each("script.authentiq-snippet[data-button]:not([data-button=no], [data-button=false])", tag => {
			if ([...tags.values()].includes(tag)) return;
			const button = document.createElement("button");
			button.type = "button";
			button.className = "authentiq-button";
			tags.set(button, tag);
			tag.closest("head") ? document.body.prepend(button) : tag.after(button);
		});
		each(".authentiq-button", label);
		each("[data-authentiq-profile-bind]", fill);
	};

	const become = who => {
		const changed = user !== undefined && user != who;
		user = who;
		who ? memory?.setItem(key, who) : memory?.removeItem(key);
		return changed;
	};
	const tell = () => channel?.postMessage("ask"); // the other tabs of this site
	const conclude = () => {
		profile = null;
		["profile", "authorized"].forEach(event => said.delete(event));
		if (!become(null)) return bind();
		bind();
		emit("concluded");
		tell();
	};
	const greet = hash => {
		if (user && user != hash.uid) conclude();
		const changed = become(hash.uid);
		profile = claims(hash);
		said.delete("concluded");
		bind();
		if (changed) emit("authorized", {});
		emit("profile", profile);
		if (changed) tell();
	};
	const ready = new Promise(done => (document.readyState == "loading" ? addEventListener("DOMContentLoaded", done) : done()));
	const ask = async () => {
		if (asking) return (again = true);
		asking = true;
		again = false;
		asked = Date.now();
		clearTimeout(timer);
		try {
			const response = await fetch(new URL("session", home), { cache: "no-store", redirect: "error", signal: AbortSignal.timeout(20e3) });
			const { ok, status } = response, body = await response.text(), before = answer;
			await ready; // handlers may use what the page defines further down
			if (status == 404) return stop("there is no session endpoint beside it: session_endpoint is off, or this is a copy, which works only at the address that the gate has it at");
			if (![200, 401, 403].includes(status)) throw status;
			const told = JSON.parse(body); // only the gate signs out, no proxy's page
			if (ok && typeof told.uid != "string") throw "no user";
			answer = ok ? body : "";
			if (answer !== before) ok ? greet(told) : conclude();
			pause = 30e3;
			if (status == 403) return fail("access_denied", told.detail);
			failing = "";
			said.delete("error");
		} catch (error) {
			pause = Math.min(2 * pause, 300e3);
			await ready;
			fail("temporarily_unavailable", "the session endpoint does not answer: " + error);
		} finally {
			asking = false;
			if (again) ask();
			else if (answer || failing) later(pause);
		}
	};
	const later = wait => {
		clearTimeout(timer);
		if (!stopped) timer = setTimeout(() => document.hidden || ask(), wait);
	};
	// Somebody comes back to the page: at once, but not at every flick between windows.
	const wake = () => later(Math.max(0, asked + 3e3 - Date.now()));

	const here = () => location.pathname + location.search; // for the gate to judge: it may begin with //
	const signIn = button => {
		const address = new URL("sign-in", home), query = address.searchParams;
		const popup = /^(popup|modal)$/.test(option(button, "display")) && open("", "_blank", "popup,width=480,height=640");
		query.set("return_to", here() + (popup ? fromPopup : location.hash));
		if (!popup) return location.assign(address);
		query.set("display", "popup");
		popup.opener = null; // no page on the way has a hold on this one
		popup.location = address;
	};
	const signOut = async () => {
		const address = new URL("sign-out", home);
		// Back to here, unless that needs a session: a sign-in would begin at once.
		const options = { method: "HEAD", credentials: "omit", redirect: "error", signal: AbortSignal.timeout(5e3) };
		if (await fetch(location, options).then(({ ok }) => ok, () => false)) address.searchParams.set("return_to", here() + location.hash);
		location.assign(address);
	};

	window.authentiq = {
		subscribe(event, fn) {
			const listener = value => attempt(fn, value), value = said.get(event);
			if (!listeners.has(event)) listeners.set(event, new Set());
			const all = listeners.get(event).add(listener);
			if (said.has(event)) queueMicrotask(() => all.has(listener) && said.has(event) && said.get(event) === value && listener(value));
			return () => void all.delete(listener);
		},
		bind,
		signIn: () => void (stopped || signIn()),
		signOut: () => void (stopped || signOut()),
		Provider: { isSignedIn: () => !!profile, profile: () => profile },
	};

	if (home?.origin !== location.origin) return stop("it works from a script tag, loaded from this site: as /authentiq/authentiq.js, below path_prefix");
	try {
		memory = sessionStorage;
	} catch {}
	user = memory?.getItem(key);
	channel = new BroadcastChannel(key);
	channel.onmessage = () => stopped || ask();
	if (location.hash == fromPopup) {
		history.replaceState(history.state, "", location.href.split("#")[0]);
		tell();
		close();
		if (closed) return;
	}
	addEventListener("click", event => {
		const button = event.target.closest?.(".authentiq-button");
		if (!button || event.defaultPrevented || stopped) return;
		event.preventDefault();
		profile ? signOut() : signIn(button);
	});
	for (const event of ["focus", "pageshow", "visibilitychange"]) addEventListener(event, ({ persisted }) => persisted === false || wake());
	ask();
})();
