// SPDX-License-Identifier: Apache-2.0

package store

// This file reads addresses: of one Redis, of one that sentinels watch over, of a
// cluster.

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bsm/redislock"
	"github.com/redis/go-redis/v9"
)

// redisTimeout is for dialing, for a write and for an answer.
const redisTimeout = 3 * time.Second

var errAddress = errors.New("want redis://, rediss:// or unix:// with a host, such as redis://user:password@localhost:6379/0; " +
	"what is not a letter or a digit in a password is written %XX")

// OpenRedis returns the Store at address: redis://, rediss:// (TLS) or unix://,
// with user, password and database. With the parameter master_name it is that of
// the sentinels there, with addr alone that of a cluster's nodes; more of either
// are in addr. It does not dial. Errors don't repeat the address, which may have a
// password in it.
func OpenRedis(address string, now func() time.Time) (*Redis, error) {
	u, err := url.Parse(address)
	if err != nil || u.Fragment != "" {
		return nil, errAddress
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, errAddress
	}
	if err := checkAddress(u, query); err != nil {
		return nil, err
	}
	options, err := parseAddress(*u, query)
	if err != nil {
		return nil, errAddress
	}
	client, at := options.open()
	return &Redis{
		at: at, name: fmt.Sprintf("redis %s/%d", at, options.database()), client: client, locks: redislock.New(client), now: now,
		askEvery: askEvery, silence: silence, journals: make(map[string]*redisJournal),
	}, nil
}

// redisKinds are the parameters that tell of which kind an address is.
var redisKinds = []string{"master_name", "addr"}

// redisParameters are the others. Those by which replicas would answer are not among
// them: what replicas have may be old.
var redisParameters = []string{
	"db", "username", "password", "skip_verify", "conn_max_idle_time", "conn_max_lifetime",
	"pool_size", "pool_timeout", "min_idle_conns", "max_idle_conns", "max_active_conns",
}

// checkAddress finds what is wrong with an address, and tells no more of it than
// the names of parameters.
func checkAddress(u *url.URL, query url.Values) error {
	// redis:6379 has no host either: what is left out would be localhost.
	if u.Opaque != "" || (u.Scheme == "unix") != (u.Host == "") || u.Scheme != "unix" && u.Hostname() == "" {
		return errAddress
	}
	few := make(url.Values)
	for _, name := range redisKinds {
		if query.Has(name) {
			few[name] = query[name]
		}
	}
	if slices.Contains(query["master_name"], "") {
		return errors.New("the parameter master_name has no value")
	}
	for _, addr := range query["addr"] {
		host, port, err := net.SplitHostPort(addr)
		if _, number := strconv.ParseUint(port, 10, 16); err != nil || number != nil || host == "" {
			return errors.New("the parameter addr wants a host and a port, such as localhost:6379")
		}
	}
	if port := u.Port(); port != "" {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return errAddress
		}
	}
	if len(few) > 0 && u.Scheme == "unix" {
		return errors.New("sentinels and clusters have redis:// or rediss://, not unix://")
	}
	if query.Has("addr") && !query.Has("master_name") && strings.Trim(u.Path, "/") != "" && u.Path != "/0" {
		return errors.New("a cluster has no databases but 0")
	}
	if _, err := parseAddress(*u, few); err != nil {
		return errAddress
	}
	for name := range query {
		if slices.Contains(redisKinds, name) || slices.Contains(redisParameters, name) {
			continue
		}
		// A password that was not escaped may look like a parameter.
		if query.Has("password") || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz_") != "" {
			name = "after those that are"
		}
		return fmt.Errorf("the parameter %s is unknown; known are %s and %s", name, strings.Join(redisKinds, ", "), strings.Join(redisParameters, ", "))
	}
	for _, name := range redisParameters {
		values := query[name]
		if len(values) == 0 {
			continue
		}
		wrong := len(values) > 1
		if number, err := strconv.Atoi(values[0]); err == nil && name != "username" && name != "password" {
			wrong = wrong || number < 0 || number > 1<<20
		}
		few[name] = values
		_, err := parseAddress(*u, few)
		delete(few, name)
		if err != nil || wrong {
			return fmt.Errorf("the parameter %s has a wrong value, or is not for this kind of address", name)
		}
	}
	return nil
}

// redisOptions are of one of the kinds.
type redisOptions struct {
	single    *redis.Options
	sentinels *redis.FailoverOptions
	cluster   *redis.ClusterOptions
}

func parseAddress(u url.URL, query url.Values) (o redisOptions, err error) {
	u.RawQuery = query.Encode()
	switch {
	case query.Has("master_name"):
		o.sentinels, err = redis.ParseFailoverURL(u.String())
	case query.Has("addr"):
		o.cluster, err = redis.ParseClusterURL(u.String())
	default:
		o.single, err = redis.ParseURL(u.String())
	}
	return o, err
}

func (o redisOptions) database() int {
	switch {
	case o.sentinels != nil:
		return o.sentinels.DB
	case o.cluster != nil:
		return 0 // the only one
	default:
		return o.single.DB
	}
}

// open makes the client. It knows contexts; each of its attempts to do something
// dials once. It speaks RESP 2 and says nothing about itself: what else it would
// ask for, the rights of its user don't include, and Redis would note each time in
// its log of refusals.
func (o redisOptions) open() (client redis.UniversalClient, at string) {
	const version = 2
	switch {
	case o.sentinels != nil:
		o := o.sentinels
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout = redisTimeout, redisTimeout, redisTimeout
		o.ContextTimeoutEnabled, o.DialerRetries = true, 1
		o.Protocol, o.DisableIdentity = version, true
		return redis.NewFailoverClient(o), o.MasterName + " of the sentinels " + strings.Join(o.SentinelAddrs, ", ")
	case o.cluster != nil:
		o := o.cluster
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout = redisTimeout, redisTimeout, redisTimeout
		o.ContextTimeoutEnabled, o.DialerRetries = true, 1
		o.Protocol, o.DisableIdentity = version, true
		o.DisableRoutingPolicies = true // every command here has one key
		return redis.NewClusterClient(o), "the cluster of " + strings.Join(o.Addrs, ", ")
	default:
		o := o.single
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout = redisTimeout, redisTimeout, redisTimeout
		o.ContextTimeoutEnabled, o.DialerRetries = true, 1
		o.Protocol, o.DisableIdentity = version, true
		return redis.NewClient(o), o.Addr
	}
}
