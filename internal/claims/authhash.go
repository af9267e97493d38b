// SPDX-License-Identifier: Apache-2.0

// Address and geolocation in the shape of the auth hash, as apps with an Authentiq integration know them.

package claims

import "encoding/json"

// Address returns the auth hash's `location`: country, formatted, locality, postal_code, state, street_address. Only text
// that shows something is taken over, and nothing but these names: an upstream reads this as the user's own words, so a
// provider's extra members have no business in it. nil when nothing is left, or v is no object. The result is for reading:
// an object that has the shape already is returned as it is, because every session that is opened asks.
func Address(v any) map[string]any {
	in, ok := v.(map[string]any)
	if !ok {
		return nil
	}
	if onlyAddress(in) {
		return in
	}
	out := map[string]any{}
	for _, name := range [...]string{"country", "formatted", "locality", "postal_code", "state", "street_address"} {
		if s, ok := in[name].(string); ok && !Blank(s) {
			out[name] = s
		}
	}
	// OpenID Connect Core 1.0, 5.1.1 calls it region, the auth hash state; the standard's name wins when both came.
	if s, ok := in["region"].(string); ok && !Blank(s) {
		out["state"] = s
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// onlyAddress reports whether object has Address's shape and nothing else.
func onlyAddress(object map[string]any) bool {
	for name, value := range object {
		switch name {
		case "country", "formatted", "locality", "postal_code", "state", "street_address":
		default:
			return false
		}
		if s, ok := value.(string); !ok || Blank(s) {
			return false
		}
	}
	return len(object) > 0
}

// Geolocation returns the auth hash's `geolocation` from aq:location: accuracy, altitude, latitude, longitude and speed as
// the phone wrote them, digit for digit, and the address in Address's shape. nil when nothing is left, or v is no object.
func Geolocation(v any) map[string]any {
	in, ok := v.(map[string]any)
	if !ok {
		return nil
	}
	out := map[string]any{}
	for _, name := range [...]string{"accuracy", "altitude", "latitude", "longitude", "speed"} {
		if n, ok := in[name].(json.Number); ok && isNumber(string(n)) {
			out[name] = n
		}
	}
	if address := Address(in["address"]); address != nil {
		out["address"] = address
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// AuthHash is what an application with an Authentiq integration of the OmniAuth kind receives, without the credentials:
// provider, uid, sid, info and extra. What was not shared is absent, not null. The locale is language_TERRITORY.
func AuthHash(c Claims) map[string]any {
	info := map[string]any{}
	putTexts(info, c, map[string]string{
		"name": "name", "first_name": "given_name", "last_name": "family_name", "email": "email", "phone": "phone_number",
	})
	if location := Address(c["address"]); location != nil {
		info["location"] = location
	}
	if geolocation := Geolocation(c["aq:location"]); geolocation != nil {
		info["geolocation"] = geolocation
	}
	extra := map[string]any{}
	putTexts(extra, c, map[string]string{"middle_name": "middle_name", "phone_type": "phone_type", "zoneinfo": "zoneinfo"})
	for _, name := range []string{"email_verified", "phone_number_verified"} {
		if verified, ok := c[name].(bool); ok {
			extra[name] = verified
		}
	}
	putLocale(extra, c)
	// The integrations have no place for handles. This one is theirs for whatever else
	// there is, so that nobody who reads the rest finds it in another shape.
	if social := Social(c); social != nil {
		extra["social"] = social
	}
	hash := map[string]any{"provider": "authentiq", "info": info, "extra": extra}
	putTexts(hash, c, map[string]string{"uid": "sub", "sid": "sid"})
	return hash
}

// Social returns the user's handles at other services, by service, from aq:social:twitter and its like: a text, or an
// object, as the provider wrote it. nil when there are none.
func Social(c Claims) map[string]any {
	var out map[string]any
	for _, service := range [...]string{"facebook", "linkedin", "twitter"} {
		value := c["aq:social:"+service]
		switch v := value.(type) {
		case string:
			if Blank(v) {
				continue
			}
		case map[string]any:
			if len(v) == 0 {
				continue
			}
		default:
			continue
		}
		if out == nil {
			out = make(map[string]any)
		}
		out[service] = value
	}
	return out
}

// BasicHash is the part of it that a page needs to greet its user.
func BasicHash(c Claims) map[string]any {
	hash := map[string]any{}
	putTexts(hash, c, map[string]string{"uid": "sub", "sid": "sid", "name": "name"})
	putLocale(hash, c)
	return hash
}

// putTexts sets members from the texts of claims.
func putTexts(object map[string]any, c Claims, from map[string]string) {
	for member, claim := range from {
		if text := c.String(claim); text != "" {
			object[member] = text
		}
	}
}

func putLocale(object map[string]any, c Claims) {
	if locale := Locale(c.String("locale")); locale != "" {
		object["locale"] = locale
	}
}
