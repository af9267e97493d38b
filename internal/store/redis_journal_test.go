// SPDX-License-Identifier: Apache-2.0

package store

// What those hear who follow a journal in Redis, on good days and on bad ones.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/authentiq/caddy-authentiq/internal/store/storetest"
)

// listener is a machine that follows a journal, and begins anew whenever that ends.
type listener struct {
	mu        sync.Mutex
	known     map[string]int64 // what was told, by value
	early     int              // how much of it was told before the first Whole
	wholes    int
	confirmed time.Time
	errs      []error
}

// brisk is a Redis that is asked more often than otherwise.
func brisk(t *testing.T, address string, c *clock) *Redis {
	t.Helper()
	s := openRedis(t, address, c)
	s.askEvery /= 20
	return s
}

func listen(t *testing.T, s *Redis, name string) *listener {
	t.Helper()
	l := &listener{known: make(map[string]int64)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			err := s.Journal(name).Follow(ctx, l.learned)
			l.mu.Lock()
			l.errs = append(l.errs, err)
			l.mu.Unlock()
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(15 * time.Second):
			t.Error("Follow goes on after its context has ended")
		}
	})
	return l
}

func (l *listener) learned(records []Record, stage Stage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range records {
		l.known[r.Value] = max(l.known[r.Value], r.Until)
	}
	switch stage {
	case Whole:
		l.wholes++
		fallthrough
	case News:
		l.confirmed = time.Now()
	}
	if l.wholes == 0 || l.wholes == 1 && stage == Whole {
		l.early = len(l.known)
	}
}

func (l *listener) has(records ...Record) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range records {
		if l.known[r.Value] != r.Until {
			return false
		}
	}
	return true
}

func (l *listener) whole() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.wholes
}

// ended returns the errors that Follow has ended with.
func (l *listener) ended() []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]error(nil), l.errs...)
}

// confirmedAfter reports whether all was known at a time after that.
func (l *listener) confirmedAfter(at time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.confirmed.After(at)
}

func record(c *clock, value string) Record { return Record{value, c.now().Add(time.Hour).Unix()} }

func records(c *clock, prefix string, n int) []Record {
	rs := make([]Record, n)
	for i := range rs {
		rs[i] = record(c, fmt.Sprintf("%s %d", prefix, i))
	}
	return rs
}

func write(t *testing.T, s *Redis, name string, rs ...Record) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := s.Journal(name).Append(ctx, rs); err != nil {
		t.Fatal(err)
	}
}

func TestAllWhoFollowAJournalInRedisLearnAtOnceWhatOneWrites(t *testing.T) {
	t.Parallel()
	server := storetest.StartRedis(t)
	c := new(clock)
	one := brisk(t, server.URL(), c)
	every := make([]byte, MaxRecord)
	for i := range every {
		every[i] = byte(i)
	}
	before := []Record{record(c, "before"), record(c, string(every)), record(c, "\x00"), record(c, "a:b\r\n")}
	write(t, one, "signouts", before...)
	write(t, one, "other", record(c, "of another journal"))
	var listeners []*listener
	for _, address := range []string{server.URL(), server.URL(), server.SocketURL()} {
		listeners = append(listeners, listen(t, brisk(t, address, c), "signouts"))
	}
	for _, l := range listeners {
		await(t, "what was there is known", func() bool { return l.whole() == 1 && l.has(before...) })
	}
	// Values of a batch that are one, and one that is known with another time.
	later := Record{"before", before[0].Until + 60}
	news := append(records(c, "news", 2500), record(c, string(every[1:])), later)
	start := time.Now()
	write(t, one, "signouts", news...)
	for _, l := range listeners {
		await(t, "the news are known", func() bool { return l.has(news...) })
		if !l.confirmedAfter(start) {
			t.Error("the news came, and nobody said that nothing is missing")
		}
	}
	// An earlier time changes nothing.
	write(t, one, "signouts", before[0])
	fresh := listen(t, brisk(t, server.URL(), c), "signouts")
	await(t, "a new one knows all", func() bool { return fresh.whole() == 1 })
	if !fresh.has(news...) || len(fresh.known) != len(before)+len(news)-1 {
		t.Errorf("a new one knows %d, want %d", len(fresh.known), len(before)+len(news)-1)
	}
	for _, l := range append(listeners, fresh) {
		if errs := l.ended(); len(errs) > 0 || l.whole() != 1 {
			t.Errorf("Follow ended %d times: %v", len(errs), errs)
		}
	}
}

func TestAJournalInRedisIsReadWhole(t *testing.T) {
	t.Parallel()
	server := storetest.StartRedis(t)
	c := new(clock)
	one := brisk(t, server.URL(), c)
	all := records(c, "record", 20_000)
	write(t, one, "signouts", all...)
	l := listen(t, brisk(t, server.SocketURL(), c), "signouts")
	await(t, "it was read", func() bool { return l.whole() == 1 })
	if l.early != len(all) || !l.has(all...) {
		t.Errorf("read were %d when all should have been known, want %d", l.early, len(all))
	}
}

func TestAJournalInRedisTakesNoNonsense(t *testing.T) {
	t.Parallel()
	server := storetest.StartRedis(t)
	c := new(clock)
	one := brisk(t, server.URL(), c)
	for name, r := range map[string]Record{
		"nothing at all":            record(c, ""),
		"more bytes than there may": record(c, strings.Repeat("x", MaxRecord+1)),
		"a time that is no time":    {"x", maxUntil + 1},
	} {
		if err := one.Journal("signouts").Append(t.Context(), []Record{r}); err == nil {
			t.Errorf("%s: was taken", name)
		}
	}
	l := listen(t, one, "signouts")
	await(t, "it was read", func() bool { return l.whole() == 1 })
	for _, message := range []string{"", ":", "x", "7", "-1:", "1:abc", "1:\x00\x00\x00\x00\x00\x00\x00\x00\xffshort", "99999999999999999999:x", strings.Repeat("y", 70_000)} {
		server.Do("PUBLISH", "authentiq:journal:signouts", message)
	}
	after := record(c, "after")
	write(t, one, "signouts", after)
	await(t, "it goes on", func() bool { return l.has(after) })
	if errs := l.ended(); len(errs) > 0 || len(l.known) != 1 {
		t.Errorf("what was told: %d records, errors %v", len(l.known), errs)
	}
}

func TestWhatIsOverInAJournalInRedisIsNotToldAndIsSwept(t *testing.T) {
	t.Parallel()
	server := storetest.StartRedis(t)
	c := new(clock)
	one, other := brisk(t, server.URL(), c), brisk(t, server.URL(), c)
	soon, long := Record{"soon", c.now().Add(time.Minute).Unix()}, Record{"long", c.now().Add(48 * time.Hour).Unix()}
	write(t, one, "signouts", soon, long, Record{"was over", c.now().Add(-time.Second).Unix()})
	first := listen(t, other, "signouts")
	await(t, "both are told", func() bool { return first.whole() == 1 && first.has(soon, long) })
	if len(first.known) != 2 {
		t.Errorf("told were %v", first.known)
	}
	c.ahead.Store(int64(time.Hour))
	second := listen(t, other, "signouts")
	await(t, "it was read", func() bool { return second.whole() == 1 && second.has(long) })
	if len(second.known) != 1 {
		t.Errorf("told were %v", second.known)
	}
	if err := one.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := server.Do("ZCARD", "authentiq:journal:signouts"); n != int64(2) { // with the counter
		t.Errorf("left are %v, want what is not over", n)
	}
	// Nobody takes it for a loss.
	last := record(c, "after")
	write(t, one, "signouts", last)
	await(t, "it goes on", func() bool { return first.has(last) && second.has(last) })
	at := time.Now()
	await(t, "nothing is missing", func() bool { return first.confirmedAfter(at) && second.confirmedAfter(at) })
	if errs := append(first.ended(), second.ended()...); len(errs) > 0 {
		t.Error(errs)
	}
}

func TestNothingIsMissingAfterRedisWasKilled(t *testing.T) {
	t.Parallel()
	server := storetest.StartRedis(t)
	c := new(clock)
	one := brisk(t, server.URL(), c)
	listeners := []*listener{listen(t, brisk(t, server.URL(), c), "signouts"), listen(t, brisk(t, server.SocketURL(), c), "signouts")}
	var mu sync.Mutex
	var stored []Record
	refused := 0
	writing, stop := context.WithCancel(t.Context())
	defer stop()
	var running sync.WaitGroup
	for w := range 3 {
		running.Go(func() {
			for i := 0; writing.Err() == nil; i++ {
				r := record(c, fmt.Sprintf("writer %d %d", w, i))
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				start := time.Now()
				err := one.Journal("signouts").Append(ctx, []Record{r})
				cancel()
				if took := time.Since(start); took > 10*time.Second {
					t.Errorf("gave up after %s, want its context's second", took)
				}
				mu.Lock()
				if err == nil {
					stored = append(stored, r)
				} else {
					refused++
				}
				mu.Unlock()
			}
		})
	}
	count := func() (n, no int) {
		mu.Lock()
		defer mu.Unlock()
		return len(stored), refused
	}
	for range 2 {
		had, before := count()
		await(t, "more is written", func() bool { n, _ := count(); return n > had+100 })
		server.Kill()
		await(t, "nobody takes it", func() bool { _, no := count(); return no >= before+3 })
		var reads []int
		for _, l := range listeners {
			reads = append(reads, l.whole())
		}
		server.Start()
		for i, l := range listeners {
			await(t, "all is read anew", func() bool { return l.whole() > reads[i] })
		}
	}
	had, _ := count()
	await(t, "it is taken again", func() bool { n, _ := count(); return n > had+100 })
	stop()
	running.Wait()
	for _, l := range listeners {
		await(t, "all that was taken is known", func() bool { return l.has(stored...) })
	}
}

func TestARedisThatHangsIsNoticedByThoseWhoFollow(t *testing.T) {
	t.Parallel()
	server := storetest.StartRedis(t)
	c := new(clock)
	one := brisk(t, server.URL(), c)
	one.silence /= 6
	l := listen(t, one, "signouts")
	first := record(c, "before")
	write(t, one, "signouts", first)
	await(t, "it is known", func() bool { return l.whole() == 1 && l.has(first) })
	at := time.Now()
	await(t, "it is confirmed while nothing comes", func() bool { return l.confirmedAfter(at) })
	server.Pause()
	t.Cleanup(server.Resume)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	meanwhile := record(c, "meanwhile")
	if err := one.Journal("signouts").Append(ctx, []Record{meanwhile}); err == nil {
		t.Error("nobody took it, and it counts as stored")
	}
	await(t, "it was noticed", func() bool { return len(l.ended()) > 0 })
	at = time.Now()
	server.Resume()
	write(t, one, "signouts", meanwhile)
	await(t, "all is known again", func() bool { return l.whole() >= 2 && l.has(first, meanwhile) && l.confirmedAfter(at) })
}

// lossy passes connections on to a server until one of them has said a word; from
// then on that one is passed on no more, and stays open.
func lossy(t *testing.T, server *storetest.Redis, word string, loses *atomic.Bool) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			backend, err := net.Dial("unix", server.Socket)
			if err != nil {
				_ = client.Close()
				continue
			}
			t.Cleanup(func() { _, _ = client.Close(), backend.Close() })
			var said atomic.Bool
			pass := func(from, to net.Conn, listens bool) {
				buffer := make([]byte, 64<<10)
				for {
					n, err := from.Read(buffer)
					if listens && bytes.Contains(buffer[:n], []byte(word)) {
						said.Store(true)
					}
					if said.Load() && loses.Load() {
						continue
					}
					if n > 0 {
						_, _ = to.Write(buffer[:n])
					}
					if err != nil {
						_, _ = client.Close(), backend.Close()
						return
					}
				}
			}
			go pass(client, backend, true)
			go pass(backend, client, false)
		}
	}()
	return strings.Replace(server.URL(), "127.0.0.1:"+server.Port, l.Addr().String(), 1)
}

// A connection may be lost on one side only, such as one through a firewall that has
// forgotten it, while others are well.
func TestAConnectionThatIsLostSilentlyIsNoticed(t *testing.T) {
	t.Parallel()
	server := storetest.StartRedis(t)
	c := new(clock)
	var loses atomic.Bool
	one := brisk(t, lossy(t, server, "subscribe", &loses), c)
	one.silence /= 6
	l := listen(t, one, "signouts")
	await(t, "it was read", func() bool { return l.whole() == 1 })
	loses.Store(true)
	meanwhile := record(c, "meanwhile")
	write(t, one, "signouts", meanwhile) // on another connection, which is well
	await(t, "it was noticed", func() bool { return len(l.ended()) > 0 })
	loses.Store(false)
	await(t, "it is known", func() bool { return l.whole() >= 2 && l.has(meanwhile) })
}

func TestWhatWasWrittenWhileTheConnectionWasLostIsKnownAfterwards(t *testing.T) {
	t.Parallel()
	server := storetest.StartRedis(t)
	c := new(clock)
	one := brisk(t, server.URL(), c)
	other := brisk(t, server.SocketURL(), c)
	l := listen(t, other, "signouts")
	await(t, "it was read", func() bool { return l.whole() == 1 })
	// The pause before it begins anew is held, and with it what it hears.
	l.mu.Lock()
	server.Do("CLIENT", "KILL", "TYPE", "pubsub")
	meanwhile := records(c, "meanwhile", 10)
	write(t, one, "signouts", meanwhile...)
	l.mu.Unlock()
	await(t, "it is known", func() bool { return l.whole() == 2 && l.has(meanwhile...) })
	if errs := l.ended(); len(errs) != 1 || !strings.Contains(errs[0].Error(), "Redis at ") {
		t.Errorf("got %v", errs)
	}
}

// Redis may lose what it had, or not reach those who listen, without any connection
// being lost.
func TestThatSomethingWasMissedIsNoticed(t *testing.T) {
	t.Parallel()
	for name, happens := range map[string]func(server *storetest.Redis){
		"a message was never told": func(server *storetest.Redis) {
			server.Do("ZINCRBY", "authentiq:journal:signouts", "+1", "")
		},
		"all was lost": func(server *storetest.Redis) { server.Do("FLUSHALL") },
		"some was lost, as by a replica that was behind": func(server *storetest.Redis) {
			server.Do("ZINCRBY", "authentiq:journal:signouts", "-1", "")
		},
	} {
		for then, next := range map[string]bool{"and nothing comes": false, "and more comes": true} {
			t.Run(name+" "+then, func(t *testing.T) {
				t.Parallel()
				server := storetest.StartRedis(t)
				c := new(clock)
				one := brisk(t, server.URL(), c)
				before, after := record(c, "before"), record(c, "after")
				write(t, one, "signouts", before)
				l := listen(t, one, "signouts")
				await(t, "it was read", func() bool { return l.whole() == 1 && l.has(before) })
				happens(server)
				if next {
					write(t, one, "signouts", after)
				}
				await(t, "it is read anew", func() bool { return l.whole() == 2 })
				if next && !l.has(after) {
					t.Error("what came then is not known")
				}
				at := time.Now()
				await(t, "it is at rest", func() bool { return l.confirmedAfter(at) })
				if l.whole() != 2 || !slices.ContainsFunc(l.ended(), func(err error) bool { return errors.Is(err, errMissed) || errors.Is(err, errWentBack) }) {
					t.Errorf("it was read %d times", l.whole())
				}
			})
		}
	}
}

// One that is slow finds its connection closed by Redis rather than that something
// was left out.
func TestOneWhoIsTooSlowIsToldSo(t *testing.T) {
	t.Parallel()
	server := storetest.StartRedis(t)
	server.Do("CONFIG", "SET", "client-output-buffer-limit", "pubsub 262144 0 0")
	c := new(clock)
	one := brisk(t, server.URL(), c)
	l := listen(t, brisk(t, server.SocketURL(), c), "signouts")
	await(t, "it was read", func() bool { return l.whole() == 1 })
	l.mu.Lock()
	all := make([]Record, 20_000)
	for i := range all {
		all[i] = record(c, fmt.Sprintf("%0*d", MaxRecord, i))
	}
	write(t, one, "signouts", all...)
	l.mu.Unlock()
	await(t, "all is known", func() bool { return l.has(all...) })
	if errs := l.ended(); len(errs) == 0 || l.whole() < 2 {
		t.Errorf("more was told than it took, and Follow has not ended: %v", errs)
	}
}

func TestFollowEndsWithItsContext(t *testing.T) {
	t.Parallel()
	server := storetest.StartRedis(t)
	s := brisk(t, server.URL(), new(clock))
	for name, prepare := range map[string]func(){"while it waits": func() {}, "while Redis hangs": server.Pause} {
		ctx, cancel := context.WithCancel(t.Context())
		whole, done := make(chan struct{}), make(chan error, 1)
		go func() {
			done <- s.Journal("signouts").Follow(ctx, func(_ []Record, stage Stage) {
				if stage == Whole {
					close(whole)
				}
			})
		}()
		select {
		case <-whole:
		case err := <-done:
			t.Fatalf("%s: %v", name, err)
		case <-time.After(15 * time.Second):
			t.Fatalf("%s: it was never read", name)
		}
		prepare()
		cancel()
		select {
		case err := <-done:
			if err == nil || !strings.Contains(err.Error(), context.Canceled.Error()) {
				t.Errorf("%s: got %v", name, err)
			}
		case <-time.After(15 * time.Second):
			t.Errorf("%s: it goes on", name)
		}
		server.Resume()
	}
}

// do uses everything there is.
func do(t *testing.T, one, other *Redis, c *clock) {
	t.Helper()
	l := listen(t, other, "signouts")
	rs := records(c, "record", 1500)
	write(t, one, "signouts", rs...)
	await(t, "the journal is known", func() bool { return l.whole() >= 1 && l.has(rs...) })
	at := time.Now()
	await(t, "nothing is missing", func() bool { return l.confirmedAfter(at) })
	for i := range 10 {
		k := Key{"refresh", fmt.Sprint("name", i), c.now().Add(time.Hour)}
		unlock, err := one.Lock(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		taken, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		if _, err := other.Lock(taken, k); err == nil {
			t.Error("two have the lock")
		}
		cancel()
		save(t, one, k, []byte("value"))
		has(t, other, k, []byte("value"))
		unlock()
		if err := other.Delete(t.Context(), k); err != nil {
			t.Error(err)
		}
		has(t, one, k, nil)
	}
	for _, s := range []*Redis{one, other} {
		if err := s.Sweep(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestTheRightsInRedisAreEnoughAndNoMoreThanThat(t *testing.T) {
	t.Parallel()
	server := storetest.StartRedis(t)
	c := new(clock)
	do(t, brisk(t, server.URL(), c), brisk(t, server.SocketURL(), c), c)
	if refused := server.Do("ACL", "LOG"); len(refused.([]any)) != 0 {
		t.Errorf("Redis has refused something: %v", refused)
	}
	s := brisk(t, server.URL(), c)
	for _, args := range [][]any{
		{"get", "other:key"}, {"zadd", "other:key", 1, "x"}, {"publish", "other", "x"}, {"keys", "*"}, {"flushall"},
		{"config", "get", "dir"}, {"zrange", "authentiq:journal:signouts", 0, 1}, {"eval", "return redis.call('GET','other:key')", 0},
		{"eval", "return redis.call('PUBLISH','other','x')", 0}, {"acl", "whoami"}, {"cluster", "slots"},
	} {
		if err := s.client.Do(t.Context(), args...).Err(); err == nil || !strings.Contains(err.Error(), "NOPERM") && !strings.Contains(err.Error(), "user executing the script can't") {
			t.Errorf("%v: got %v", args, err)
		}
	}
	// A lock that is lengthened or asked for is none of what a store does; the client
	// that takes locks has these.
	unused := map[string]bool{"pexpire": true, "pttl": true}
	stats := server.Do("INFO", "commandstats").(string)
	for right := range strings.FieldsSeq(storetest.Rights) {
		if command, ok := strings.CutPrefix(right, "+"); ok && !unused[command] && !strings.Contains(stats, "cmdstat_"+command+":") {
			t.Errorf("%s is granted, and nothing needs it", right)
		}
	}
}

func TestWhatRedisRefusesIsToldWithWhatToDoAboutIt(t *testing.T) {
	t.Parallel()
	server := storetest.StartRedis(t)
	for name, test := range map[string]struct{ address, want string }{
		"a wrong password": {strings.Replace(server.URL(), server.Password, "Secret-Pass", 1), "look at user and password in the URL"},
		"no password":      {"redis://127.0.0.1:" + server.Port, "the URL needs a user and a password"},
	} {
		refused(t, name, brisk(t, test.address, new(clock)), test.want)
	}
	server.Do("ACL", "SETUSER", "caddy", "-zadd", "resetchannels")
	refused(t, "too few rights", brisk(t, server.URL(), new(clock)), "the rights that docs/operating.md lists")
}

// refused fails the test unless errors of s say what there is to do, and no secrets.
func refused(t *testing.T, name string, s *Redis, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for what, err := range map[string]error{
		"Append": s.Journal("signouts").Append(ctx, []Record{record(new(clock), "value-marker")}),
		"Follow": s.Journal("signouts").Follow(ctx, func([]Record, Stage) {}),
	} {
		switch {
		case err == nil || !strings.Contains(err.Error(), want):
			t.Errorf("%s, %s: got %v, want what has %q", name, what, err, want)
		case strings.Contains(err.Error(), "Secret-Pass"), strings.Contains(err.Error(), "value-marker"):
			t.Errorf("%s, %s: shows what is secret: %v", name, what, err)
		}
	}
}
