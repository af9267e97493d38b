// SPDX-License-Identifier: Apache-2.0

package store

// Redis behind TLS, with sentinels, as a cluster; and how their addresses are read.

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/internal/store/storetest"
)

func TestAClusterOfRedis(t *testing.T) {
	t.Parallel()
	nodes := storetest.StartCluster(t)
	c := new(clock)
	address := storetest.ClusterURL(nodes)
	do(t, brisk(t, address, c), brisk(t, address, c), c)
	for i, node := range nodes {
		err := brisk(t, node.URL(), c).Journal("signouts").Append(t.Context(), records(c, "record", 1))
		if _, is := node.Try("ZCARD", "authentiq:journal:signouts"); (is == nil) != (err == nil) || err != nil && !strings.Contains(err.Error(), "?addr=host:port") {
			t.Errorf("an address that names only node %d: got %v", i, err)
		}
		if refused := node.Do("ACL", "LOG"); len(refused.([]any)) != 0 {
			t.Errorf("Redis has refused something: %v", refused)
		}
	}
}

func TestAReplicaThatTheSentinelsMakeTheMasterGoesOn(t *testing.T) {
	t.Parallel()
	s := storetest.StartSentinels(t)
	c := new(clock)
	one, other := brisk(t, s.URL(), c), brisk(t, s.URL(), c)
	do(t, one, other, c)
	if refused := s.Sentinel.Do("ACL", "LOG"); len(refused.([]any)) != 0 {
		t.Errorf("the sentinel has refused something: %v", refused)
	}
	l := listen(t, other, "failover")
	before := records(c, "before", 100)
	write(t, one, "failover", before...)
	await(t, "it is known", func() bool { return l.whole() == 1 && l.has(before...) })
	s.Master.Do("WAIT", 1, 5000)
	// Transactions are what a Redis 7.0 without a default user leaves out when it
	// starts again.
	logs, err := filepath.Glob(filepath.Join(s.Master.Dir, "appendonlydir", "*.aof"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("no log of what was written: %v", err)
	}
	for _, path := range logs {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(content), "\r\nMULTI\r\n"); n > 0 {
			t.Errorf("%d transactions are in the log", n)
		}
	}
	s.Master.Kill()
	after := records(c, "after", 100)
	await(t, "the replica takes it", func() bool { return one.Journal("failover").Append(t.Context(), after) == nil })
	at := time.Now()
	await(t, "all is known", func() bool { return l.whole() >= 2 && l.has(before...) && l.has(after...) && l.confirmedAfter(at) })
	k := Key{"refresh", "a", c.now().Add(time.Hour)}
	unlock, err := one.Lock(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	save(t, one, k, []byte("value"))
	has(t, other, k, []byte("value"))
}

// A master that was replaced while it was well must not be listened to any longer.
func TestAMasterThatIsReplacedWithoutNeedIsLeft(t *testing.T) {
	t.Parallel()
	s := storetest.StartSentinels(t)
	c := new(clock)
	one, other := brisk(t, s.URL(), c), brisk(t, s.URL(), c)
	l := listen(t, other, "failover")
	before := record(c, "before")
	write(t, one, "failover", before)
	await(t, "it is known", func() bool { return l.whole() == 1 && l.has(before) })
	await(t, "the sentinel knows a replica that is ready", func() bool {
		_, err := s.Sentinel.Try("SENTINEL", "FAILOVER", "gate")
		return err == nil
	})
	await(t, "the other is the master", func() bool {
		return strings.Contains(s.Replica.Do("INFO", "replication").(string), "role:master") &&
			strings.Contains(s.Master.Do("INFO", "replication").(string), "master_link_status:up")
	})
	after := record(c, "after")
	await(t, "it takes something", func() bool { return one.Journal("failover").Append(t.Context(), []Record{after}) == nil })
	at := time.Now()
	await(t, "all is known", func() bool { return l.has(before, after) && l.confirmedAfter(at) })
}

const redisAtTLS = "STORE_TEST_REDIS"

// TestRedisWithTLS runs itself again, as a process reads which issuers it trusts
// but once.
func TestRedisWithTLS(t *testing.T) {
	if address := os.Getenv(redisAtTLS); address != "" {
		c := new(clock)
		one, other := brisk(t, address, c), brisk(t, address, c)
		do(t, one, other, c)
		return
	}
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only on Linux a file names the issuers that are trusted: NOT TESTED")
	}
	server, authority := storetest.StartRedisWithTLS(t)
	address := strings.Replace(server.URL(), "redis://", "rediss://", 1)
	s := brisk(t, address, new(clock))
	if err := s.Sweep(t.Context()); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("an issuer whom nobody trusts: got %v", err)
	}
	for name, test := range map[string]struct {
		address string
		good    bool
	}{
		"at the name in the certificate": {address, true},
		"at another name":                {strings.Replace(address, "127.0.0.1", "localhost", 1), false},
	} {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRedisWithTLS$", "-test.timeout=60s")
		child.Env = append(os.Environ(), redisAtTLS+"="+test.address, "SSL_CERT_FILE="+authority)
		output, err := child.CombinedOutput()
		if (err == nil) != test.good || !test.good && !strings.Contains(string(output), "certificate is not valid for") && !strings.Contains(string(output), "certificate is valid for") {
			t.Errorf("%s: %v\n%s", name, err, output)
		}
	}
}

func TestRedisAddressesOfSeveral(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"redis://user:Secret-Pass@one:26379/1?master_name=gate&addr=two:26379&username=u&password=Secret-Pass2": "",
		"rediss://one?master_name=gate":                                           "",
		"redis://user:Secret-Pass@one:7000?addr=two:7001&addr=three:7002":         "",
		"rediss://user:Secret-Pass@one:7000/0?addr=[::1]:7001&pool_size=5":        "",
		"rediss://user:Secret-Pass@one/2?conn_max_idle_time=30s&skip_verify=true": "",
		"unix://user:Secret-Pass@/run/redis/s?db=1&pool_size=3":                   "",
		"redis://user:Secret-Pass@one?master_name=":                               "master_name has no value",
		"redis://user:Secret-Pass@one?master_name=gate&addr=two":                  "addr wants a host and a port",
		"redis://user:Secret-Pass@one?addr=":                                      "addr wants a host and a port",
		"redis://user:Secret-Pass@one?addr=Secret-Pass:port":                      "addr wants a host and a port",
		"redis://user:Secret-Pass@one/3?addr=two:7001":                            "no databases but 0",
		"unix://user:Secret-Pass@/run/redis/s?addr=two:7001":                      "not unix://",
		"redis://user:Secret-Pass@one?addr=two:7001&read_only=true":               "parameter read_only is unknown",
		"redis://one?master_name=gate&route_randomly=true":                        "parameter route_randomly is unknown",
		"redis://one?master_name=gate&password=a&Secret-Pass":                     "after those that are is unknown",
		"redis://one?password=a&secret":                                           "after those that are is unknown",
		"redis://user:Secret-Pass@one?nonsense=1":                                 "parameter nonsense is unknown",
		"redis://:12?Secret-Pass@one":                                             "want redis://",
		"redis://one:12?Secret-Pass@one":                                          "after those that are is unknown",
		"redis://user:Secret-Pass@one?pool_size=Secret-Pass":                      "pool_size has a wrong value",
		"redis://user:Secret-Pass@one?pool_size=99999999999":                      "pool_size has a wrong value",
		"redis://user:Secret-Pass@one?pool_size=-5":                               "pool_size has a wrong value",
		"redis://user:Secret-Pass@one?pool_size=1&pool_size=2":                    "pool_size has a wrong value",
		"redis://user:Secret-Pass@one?skip_verify=true":                           "skip_verify has a wrong value, or is not for this kind",
		"redis://user:Secret-Pass@one:99999":                                      "want redis://",
		"redis://user:Secret-Pass@one/0?addr=two:7001#Secret":                     "want redis://",
		"redis://user:Secret/Pass@one":                                            "want redis://",
		"redis://user:Secret-Pass@one?a=%zz":                                      "want redis://",
		"redis://user:Secret-Pass@one/Secret-Pass?master_name=gate":               "want redis://",
		"http://user:Secret-Pass@one?master_name=gate":                            "want redis://",
	} {
		s, err := OpenRedis(address, time.Now)
		if err == nil {
			_ = s.Close()
		}
		switch {
		case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: got %v, want %q", address, err, want)
		case err != nil && (strings.Contains(err.Error(), "Secret") || strings.Contains(err.Error(), "secret")):
			t.Errorf("%q: the error shows the password: %v", address, err)
		}
	}
}
