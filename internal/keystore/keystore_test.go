// SPDX-License-Identifier: Apache-2.0

package keystore

// keystore_test.go: keys follow one another without anybody noticing, and nothing
// that a storage does loses one or writes over it.

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
)

var errDisk = errors.New("the disk is on strike")

// disk is a folder as machines find it, and a storage that does what a test
// orders.
type disk struct {
	certmagic.FileStorage
	list, lock, store, deletion error
	load                        map[uint64]error
	hangs                       bool // until the context ends
	forgets                     bool // what is stored

	mu     sync.Mutex
	loaded []string
}

func newDisk(t *testing.T) *disk {
	t.Helper()
	return &disk{FileStorage: certmagic.FileStorage{Path: t.TempDir()}, load: make(map[uint64]error)}
}

func (d *disk) trouble(ctx context.Context, ordered error) error {
	if d.hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	return ordered
}

func (d *disk) List(ctx context.Context, prefix string, recursive bool) ([]string, error) {
	if err := d.trouble(ctx, d.list); err != nil {
		return nil, err
	}
	return d.FileStorage.List(ctx, prefix, recursive)
}

func (d *disk) Load(ctx context.Context, name string) ([]byte, error) {
	if err := d.trouble(ctx, d.load[numberOf(name)]); err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.loaded = append(d.loaded, name)
	d.mu.Unlock()
	return d.FileStorage.Load(ctx, name)
}

func (d *disk) Store(ctx context.Context, name string, value []byte) error {
	if err := d.trouble(ctx, d.store); err != nil || d.forgets {
		return err
	}
	return d.FileStorage.Store(ctx, name, value)
}

func (d *disk) Delete(ctx context.Context, name string) error {
	if err := d.trouble(ctx, d.deletion); err != nil {
		return err
	}
	return d.FileStorage.Delete(ctx, name)
}

func (d *disk) Lock(ctx context.Context, name string) error {
	if err := d.trouble(ctx, d.lock); err != nil {
		return err
	}
	return d.FileStorage.Lock(ctx, name)
}

// files returns what is in the folder, by name.
func (d *disk) files(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	entries, err := os.ReadDir(filepath.Join(d.Path, folder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(d.Path, folder, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = string(content)
	}
	return all
}

func (d *disk) write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(d.Path, folder), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.Path, folder, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// machine is one of those that share a storage, with a clock that a test sets.
type machine struct {
	*Store
	t     *testing.T
	clock time.Time
	all   []Generation // as it knows them
}

func newMachine(t *testing.T, storage certmagic.Storage) *machine {
	m := &machine{t: t, clock: time.Unix(1_800_000_000, 0)}
	m.Store = &Store{Storage: storage, Now: func() time.Time { return m.clock }, Longest: 12 * time.Hour}
	return m
}

// maintain lets the machine look after the keys, which has to go well.
func (m *machine) maintain() (made bool) {
	m.t.Helper()
	all, made, err := m.Maintain(m.t.Context(), m.all)
	if err != nil {
		m.t.Fatal(err)
	}
	m.all = all
	return made
}

func (m *machine) wait(d time.Duration) { m.clock = m.clock.Add(d) }

func numbers(all []Generation) (list []uint64) {
	for _, g := range all {
		list = append(list, g.Number)
	}
	return list
}

func (m *machine) wantNumbers(when string, want ...uint64) {
	m.t.Helper()
	if got := numbers(m.all); !slices.Equal(got, want) {
		m.t.Errorf("%s there are %d, want %d", when, got, want)
	}
}

func newSecret() []byte {
	secret := make([]byte, SecretLength)
	_, _ = rand.Read(secret)
	return secret
}

func TestKeysFollowOneAnotherInTime(t *testing.T) {
	m := newMachine(t, newDisk(t))
	if !m.maintain() {
		t.Fatal("no first key was made")
	}
	first := m.all[0]
	if err := Check(first.Secret); err != nil || first.Number != 1 || !first.Created.Equal(m.clock) || first.Longest != m.Longest {
		t.Errorf("the first key: %d of %s for %s, %v", first.Number, first.Created, first.Longest, err)
	}
	if m.Sealing(m.all).Number != 1 {
		t.Error("the only key does not seal")
	}
	m.wait(DefaultRotation - time.Second)
	if m.maintain() {
		t.Error("a second key was made too early")
	}
	m.wait(time.Second)
	if !m.maintain() {
		t.Error("no second key was made")
	}
	m.wantNumbers("when it is time", 2, 1)
	if bytes.Equal(m.all[0].Secret, first.Secret) || !bytes.Equal(m.all[1].Secret, first.Secret) {
		t.Error("the keys are not the old one and a new one")
	}
	if m.maintain() {
		t.Error("a third was made at once")
	}
	m.wait(2*MaxInterval - time.Second)
	if m.Sealing(m.all).Number != 1 {
		t.Error("the new key seals before all machines had two intervals to read it")
	}
	m.wait(time.Second)
	if m.Sealing(m.all).Number != 2 {
		t.Error("the new key does not seal when all machines know it")
	}
}

func TestHowOftenMachinesReadFollowsFromTheRotation(t *testing.T) {
	for _, test := range []struct{ rotation, want time.Duration }{
		{0, time.Minute},
		{DefaultRotation, time.Minute},
		{4 * time.Minute, time.Minute},
		{2 * time.Minute, 30 * time.Second},
		{MinRotation, time.Second},
	} {
		m := newMachine(t, newDisk(t))
		m.Rotation = test.rotation
		if got := m.Interval(); got != test.want {
			t.Errorf("with a rotation of %s every %s, want %s", test.rotation, got, test.want)
		}
		m.maintain()
		if got := m.SealsFrom(m.all[0]).Sub(m.all[0].Created); got != 2*test.want {
			t.Errorf("with a rotation of %s a key seals after %s, want %s", test.rotation, got, 2*test.want)
		}
		// What follows must seal before it is followed itself.
		if rotation := m.rotation(); 2*m.Interval() >= rotation {
			t.Errorf("a key that seals for %s begins to after %s", rotation, 2*m.Interval())
		}
	}
}

func TestMachinesThatStartAtOnceMakeOneKey(t *testing.T) {
	for range 2 {
		folder := t.TempDir()
		const machines = 6
		var found [machines][]Generation
		var made [machines]bool
		var running sync.WaitGroup
		start := make(chan struct{})
		for i := range machines {
			m := newMachine(t, &certmagic.FileStorage{Path: folder})
			running.Go(func() {
				<-start
				var err error
				if found[i], made[i], err = m.Maintain(t.Context(), nil); err != nil {
					t.Error(err)
				}
			})
		}
		close(start)
		running.Wait()
		makers := 0
		for i := range machines {
			if made[i] {
				makers++
			}
			if len(found[i]) != 1 || !bytes.Equal(found[i][0].Secret, found[0][0].Secret) {
				t.Fatalf("machine %d found %d, or another secret than the first machine", i, numbers(found[i]))
			}
		}
		if makers != 1 {
			t.Errorf("%d made a key, want one", makers)
		}
	}
}

// A machine that allows longer sessions tells the others by a new key, so that
// none deletes what it has sealed.
func TestLongerSessionsAreTold(t *testing.T) {
	d := newDisk(t)
	here, there := newMachine(t, d), newMachine(t, d)
	here.maintain()
	there.maintain()
	there.Longest = 100 * 24 * time.Hour
	if !there.maintain() || there.maintain() {
		t.Error("longer sessions are not told, or more than once")
	}
	if here.maintain() {
		t.Error("the other machine makes a key for it too")
	}
	here.wantNumbers("after that", 2, 1)
	if here.all[0].Longest != there.Longest {
		t.Errorf("told was %s", here.all[0].Longest)
	}
	// Shorter ones need none, and what was said stays.
	here.wait(DefaultRotation)
	if !here.maintain() || here.all[0].Longest != there.Longest {
		t.Errorf("the next key says %s", here.all[0].Longest)
	}
}

func TestAKeyFromTheFutureStopsNothing(t *testing.T) {
	d := newDisk(t)
	m := newMachine(t, d)
	m.maintain()
	wrong := newMachine(t, d)
	wrong.clock = m.clock.Add(20 * 365 * 24 * time.Hour)
	if !wrong.maintain() {
		t.Fatal("the machine with the wrong clock made no key")
	}
	if !m.maintain() {
		t.Error("a key from the future keeps the next from being made")
	}
	m.wantNumbers("now", 3, 2, 1)
	for range 5 {
		if n := m.Sealing(m.all).Number; n == 2 {
			t.Errorf("after %s the key from the future seals", m.clock)
		}
		m.wait(2 * MaxInterval)
		if m.maintain() {
			t.Error("another key was made")
		}
	}
	if m.Sealing(m.all).Number != 3 {
		t.Error("the key of the right clock does not seal")
	}
	m.wait(DefaultRotation)
	if !m.maintain() || m.all[0].Number != 4 {
		t.Errorf("rotation has stopped at %d", numbers(m.all))
	}
	// A clock that is a little ahead is no reason for a key more.
	little := newMachine(t, newDisk(t))
	little.maintain()
	little.wait(-ahead)
	if little.maintain() {
		t.Error("a clock that is an hour ahead causes a key")
	}
}

// A number that can't be followed would be the last.
func TestNumbersThatWereNeverMadeHereDoNotBlockRotation(t *testing.T) {
	for _, number := range []string{"1099511627777", "9223372036854775807", "18446744073709551615"} {
		d := newDisk(t)
		m := newMachine(t, d)
		m.maintain()
		d.write(t, number+suffix, d.files(t)["00000001"+suffix])
		m.wait(DefaultRotation)
		if !m.maintain() {
			t.Errorf("%s: no key was made", number)
		}
		m.wantNumbers("beside "+number, 2, 1)
		if d.files(t)[number+suffix] == "" {
			t.Errorf("%s was deleted, and is not ours", number)
		}
	}
}

func TestAKeyFromWhenThereAreNoDatesIsNotReadable(t *testing.T) {
	for _, created := range []int64{math.MaxInt64, math.MaxInt64 / 2, 253402300800} {
		value, err := encode(Generation{Secret: newSecret(), Created: time.Unix(created, 0)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decode(value); err == nil {
			t.Errorf("%d is a date", created)
		}
	}
	latest, err := encode(Generation{Secret: newSecret(), Created: time.Unix(253402300799, 0)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decode(latest); err != nil {
		t.Error(err)
	}
}

func TestAKeyIsKeptUntilWhatItSealedIsOver(t *testing.T) {
	for _, test := range []struct {
		name    string
		here    time.Duration // the longest session on the machine that deletes
		there   time.Duration // on another, which has told
		longest time.Duration
	}{
		{"sessions as long as anywhere", 12 * time.Hour, 0, 12 * time.Hour},
		{"longer ones on another machine", 12 * time.Hour, 40 * 24 * time.Hour, 40 * 24 * time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := newDisk(t)
			m := newMachine(t, d)
			m.Longest = test.here
			m.maintain()
			if test.there > 0 {
				other := newMachine(t, d)
				other.Longest = test.there
				other.maintain()
				m.maintain()
			}
			before := len(m.all)
			m.wait(DefaultRotation)
			m.maintain()
			last := m.SealsFrom(m.all[0]) // the old one seals up to here
			want := last.Add(test.longest + 2*m.Interval() + slack)
			if got := m.KeptUntil(m.all, 1); !got.Equal(want) {
				t.Errorf("kept until %s after, want %s", got.Sub(last), want.Sub(last))
			}
			old := m.all[1].Number
			// What it sealed last is over only now; another second would be enough.
			m.clock = want.Add(-time.Second)
			m.Rotation = 100 * 365 * 24 * time.Hour // no other key comes in between
			m.maintain()
			if !slices.Contains(numbers(m.all), old) {
				t.Errorf("%d was deleted while its sessions last, %d are left", old, numbers(m.all))
			}
			m.clock = want
			m.maintain()
			if slices.Contains(numbers(m.all), old) {
				t.Errorf("%d is still there, of %d", old, before)
			}
			if files := d.files(t); len(files) != len(m.all) {
				t.Errorf("%d objects in storage, %d keys", len(files), len(m.all))
			}
			fresh := newMachine(t, d)
			fresh.clock, fresh.Longest, fresh.Rotation = m.clock, m.Longest, m.Rotation
			if fresh.maintain() || !slices.Equal(numbers(fresh.all), numbers(m.all)) {
				t.Errorf("a machine that starts then finds %d", numbers(fresh.all))
			}
		})
	}
}

func TestNothingIsDeletedWhileSomethingCanNotBeRead(t *testing.T) {
	d := newDisk(t)
	m := newMachine(t, d)
	m.maintain()
	m.wait(DefaultRotation)
	m.maintain()
	m.clock = m.KeptUntil(m.all, 1).Add(time.Hour)
	m.Rotation = 10 * 365 * 24 * time.Hour
	d.write(t, "00000007.key", "cut o")
	all, made, err := m.Maintain(t.Context(), m.all)
	if err == nil || made || !slices.Equal(numbers(all), []uint64{2, 1}) {
		t.Errorf("with one that can't be read: %d, made %t, %v", numbers(all), made, err)
	}
	if err := os.Remove(filepath.Join(d.Path, folder, "00000007.key")); err != nil {
		t.Fatal(err)
	}
	d.deletion = errDisk
	m.maintain()
	m.wantNumbers("while nothing can be deleted", 2, 1)
	d.deletion = nil
	m.maintain()
	m.wantNumbers("when all is well again", 2)
}

func TestAStorageInTroubleLosesNoKey(t *testing.T) {
	for _, test := range []struct {
		name  string
		empty bool // no key was made before
		order func(d *disk)
		want  string
	}{
		{"it can't be listed", false, func(d *disk) { d.list = errDisk }, "listing the session keys"},
		{"it can't be listed, and is empty", true, func(d *disk) { d.list = errDisk }, "listing the session keys"},
		{"a key can't be read", false, func(d *disk) { d.load[1] = errDisk }, "reading the session key"},
		{"it can't be locked", true, func(d *disk) { d.lock = errDisk }, "locking Caddy's storage"},
		{"it is read-only", true, func(d *disk) { d.store = fs.ErrPermission }, "storing the session key"},
		{"it is full", true, func(d *disk) { d.store = errors.New("no space left on device") }, "no space left on device"},
		{"it is full and does not say so", true, func(d *disk) { d.forgets = true }, "is not there"},
		{"it hangs", false, func(d *disk) { d.hangs = true }, context.DeadlineExceeded.Error()},
		{"it hangs, and is empty", true, func(d *disk) { d.hangs = true }, context.DeadlineExceeded.Error()},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := newDisk(t)
			m := newMachine(t, d)
			if !test.empty {
				m.maintain()
				m.all = nil // it has been restarted
			}
			before := d.files(t)
			test.order(d)
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			all, made, err := m.Maintain(ctx, nil)
			if err == nil || !strings.Contains(err.Error(), test.want) || made || len(all) != 0 {
				t.Errorf("%d, made %t, %v, want %q", numbers(all), made, err, test.want)
			}
			if after := d.files(t); fmt.Sprint(after) != fmt.Sprint(before) {
				t.Error("the storage has something else now")
			}
			*d = disk{FileStorage: d.FileStorage}
			if made := m.maintain(); made != test.empty || len(m.all) != 1 {
				t.Errorf("afterwards: made %t, %d", made, numbers(m.all))
			}
		})
	}
}

func TestRotationWaitsForAStorageInTrouble(t *testing.T) {
	for name, order := range map[string]func(d *disk){
		"can't be listed":        func(d *disk) { d.list = errDisk },
		"can't be locked":        func(d *disk) { d.lock = errDisk },
		"is read-only":           func(d *disk) { d.store = fs.ErrPermission },
		"loses what it is given": func(d *disk) { d.forgets = true },
	} {
		d := newDisk(t)
		m := newMachine(t, d)
		m.maintain()
		m.wait(2 * DefaultRotation)
		order(d)
		all, made, err := m.Maintain(t.Context(), m.all)
		if err == nil || made || len(all) > 1 {
			t.Errorf("%s: %d, made %t, %v", name, numbers(all), made, err)
		}
		*d = disk{FileStorage: d.FileStorage}
		if !m.maintain() || m.Sealing(m.all).Number != 1 {
			t.Errorf("%s, then well: %d", name, numbers(m.all))
		}
	}
}

// A folder that is no longer mounted is empty, and so is one where somebody has
// cleaned up. A new key in it would sign everybody out.
func TestKeysThatVanishAreNotReplacedWhileTheyAreKnown(t *testing.T) {
	d := newDisk(t)
	m := newMachine(t, d)
	m.maintain()
	if err := os.RemoveAll(filepath.Join(d.Path, folder)); err != nil {
		t.Fatal(err)
	}
	if _, made, err := m.Maintain(t.Context(), m.all); err == nil || made || !strings.Contains(err.Error(), "are gone from Caddy's storage") {
		t.Errorf("made %t, %v", made, err)
	}
	if files := d.files(t); len(files) != 0 {
		t.Errorf("there are %d objects", len(files))
	}
}

// A machine that has read a key goes by its number, so that a number must never
// be another key's.
func TestANumberIsNeverUsedAgain(t *testing.T) {
	d := newDisk(t)
	m := newMachine(t, d)
	m.maintain()
	m.wait(DefaultRotation)
	m.maintain()
	lost := filepath.Join(d.Path, folder, "00000002.key")
	if err := os.Remove(lost); err != nil {
		t.Fatal(err)
	}
	if !m.maintain() {
		t.Error("the key that was lost is not followed by another")
	}
	m.wantNumbers("after a loss", 3, 1)
	d.write(t, "00000041.key", "something else")
	if _, err := m.Rotate(t.Context()); err == nil {
		t.Error("a key was made beside one that can't be read")
	}
}

func TestObjectsThatAreNoKeysStayAsTheyAre(t *testing.T) {
	secret := base64.StdEncoding.EncodeToString(newSecret())
	for _, test := range []struct{ name, content, want string }{
		{"empty", "", "has 0 bytes"},
		{"a line break", "\n", "has 0 bytes"},
		{"cut off", `{"key":"` + secret[:20], "is not readable"},
		{"cut off in a way that is JSON", `{"key":"` + secret[:20] + `"}`, "has 15 bytes"},
		{"cut off, from before keys were dated", secret[:20], "has 15 bytes"},
		{"foreign", "-----BEGIN KEY-----", "is not readable"},
		{"JSON of something else", `{"issuer":"https://op.example.com"}`, "has 0 bytes"},
		{"null", "null", "has 0 bytes"},
		{"a list", "[]", "is not readable"},
		{"a number", "12345678", "has 6 bytes"},
		{"zeros", base64.StdEncoding.EncodeToString(make([]byte, 32)), "is not random"},
		{"made before there was time", `{"key":"` + secret + `","created":-1}`, "times that can't be"},
		{"for sessions of a thousand years", `{"key":"` + secret + `","longest":31536000000}`, "times that can't be"},
		{"for sessions that end before they begin", `{"key":"` + secret + `","longest":-1}`, "times that can't be"},
		{"with times that are none", `{"key":"` + secret + `","created":"yesterday"}`, "is not readable"},
		{"with bytes that are no text", "\xff\xfe\x00\x01", "is not readable"},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := newDisk(t)
			d.write(t, "00000004.key", test.content)
			m := newMachine(t, d)
			all, made, err := m.Maintain(t.Context(), nil)
			if err == nil || !strings.Contains(err.Error(), test.want) || made || len(all) != 0 {
				t.Fatalf("%d, made %t, %v, want %q", numbers(all), made, err, test.want)
			}
			wantNoSecret(t, err, secret)
			if _, err = m.Rotate(t.Context()); err == nil {
				t.Error("a key was made by hand")
			}
			wantNoSecret(t, err, secret)
			if files := d.files(t); len(files) != 1 || files["00000004.key"] != test.content {
				t.Error("it was written over, or something is beside it")
			}
			// Beside a good one: that can be used, and the error is told.
			d.write(t, "00000003.key", `{"key":"`+base64.StdEncoding.EncodeToString(newSecret())+`","created":1799999000,"longest":60}`)
			all, made, err = m.Maintain(t.Context(), nil)
			if err == nil || made || !slices.Equal(numbers(all), []uint64{3}) {
				t.Errorf("beside a good one: %d, made %t, %v", numbers(all), made, err)
			}
			if files := d.files(t); len(files) != 2 || files["00000004.key"] != test.content {
				t.Error("beside a good one it was written over, or a third was made")
			}
		})
	}
}

func wantNoSecret(t *testing.T, err error, secret string) {
	t.Helper()
	raw, decodeErr := base64.StdEncoding.DecodeString(secret)
	if decodeErr != nil {
		t.Fatal(decodeErr)
	}
	for _, form := range []string{secret[:12], string(raw[:8]), hex.EncodeToString(raw)[:12], fmt.Sprint(raw)[1:20]} {
		if strings.Contains(err.Error(), form) {
			t.Errorf("the error repeats the secret: %v", err)
		}
	}
}

func TestNamesThatAreNoKeysArePassedOver(t *testing.T) {
	d := newDisk(t)
	for _, name := range []string{"3141592653", ".DS_Store", "00000001.key~", "00000000.key", "-1.key", "1e3.key", "0x1.key", ".key", "99999999999999999999.key", "one.key", "00000001.key.tmp"} {
		d.write(t, name, "nothing of ours")
	}
	before := len(d.files(t))
	m := newMachine(t, d)
	if !m.maintain() {
		t.Error("no key was made")
	}
	m.wantNumbers("beside them", 1)
	if n := len(d.files(t)); n != before+1 {
		t.Errorf("%d objects, want %d", n, before+1)
	}
}

// Keys from before they were dated are a secret alone.
func TestAKeyFromBeforeTheyWereDatedOpensAndIsFollowed(t *testing.T) {
	for _, end := range []string{"", "\n"} {
		d := newDisk(t)
		secret := newSecret()
		content := base64.StdEncoding.EncodeToString(secret) + end
		d.write(t, "00000001.key", content)
		m := newMachine(t, d)
		if !m.maintain() {
			t.Error("no key follows it")
		}
		m.wantNumbers("after it", 2, 1)
		if !bytes.Equal(m.all[1].Secret, secret) {
			t.Error("its secret is another now")
		}
		if m.Sealing(m.all).Number != 1 {
			t.Error("it does not seal until all know the next")
		}
		if d.files(t)["00000001.key"] != content {
			t.Error("it was written over")
		}
		m.wait(2*MaxInterval + m.Longest)
		m.maintain()
		m.wantNumbers("while what it sealed may last", 2, 1)
		m.wait(2*MaxInterval + slack)
		m.maintain()
		m.wantNumbers("when that is over", 2)
	}
}

func TestKeysThatAreKnownAreNotReadAgain(t *testing.T) {
	d := newDisk(t)
	m := newMachine(t, d)
	m.Longest = 100 * 24 * time.Hour
	m.maintain()
	m.wait(DefaultRotation)
	m.maintain()
	d.loaded = nil
	m.maintain()
	if len(d.loaded) != 0 {
		t.Errorf("read again were %q", d.loaded)
	}
	m.wait(DefaultRotation)
	other := newMachine(t, d)
	other.clock = m.clock
	other.maintain()
	d.loaded = nil
	m.maintain()
	if m.wantNumbers("after another machine's", 3, 2, 1); len(d.loaded) != 1 {
		t.Errorf("read were %q, want the new one", d.loaded)
	}
	// One that can't be read now, and is known, is no trouble.
	d.load[2] = errDisk
	m.maintain()
	m.wantNumbers("with one that can't be read", 3, 2, 1)
	if all, err := m.Read(t.Context(), nil); err == nil || !slices.Equal(numbers(all), []uint64{3, 1}) {
		t.Errorf("a machine that knows none finds %d, %v", numbers(all), err)
	}
}

func TestAKeyThatIsDeletedWhileItIsReadIsNoTrouble(t *testing.T) {
	d := newDisk(t)
	m := newMachine(t, d)
	m.maintain()
	m.wait(DefaultRotation)
	m.maintain()
	d.load[1] = fs.ErrNotExist
	if all, err := m.Read(t.Context(), nil); err != nil || !slices.Equal(numbers(all), []uint64{2}) {
		t.Errorf("%d, %v", numbers(all), err)
	}
}

func TestAKeyMadeByHandSealsNoSoonerThanOthers(t *testing.T) {
	d := newDisk(t)
	m := newMachine(t, d)
	m.maintain()
	m.wait(time.Hour)
	all, err := m.Rotate(t.Context())
	if err != nil || !slices.Equal(numbers(all), []uint64{2, 1}) {
		t.Fatalf("%d, %v", numbers(all), err)
	}
	if m.Sealing(all).Number != 1 {
		t.Error("it seals at once")
	}
	if m.maintain() {
		t.Error("another follows at once")
	}
	m.wantNumbers("then", 2, 1)
}

// A file system that is listed while somebody gives a file there its name says that
// something does not exist. Who took that for all there is knew fewer keys, and
// signed people out.
func TestAReaderNeverSeesFewerKeysWhileAnotherMachineWritesOne(t *testing.T) {
	d := newDisk(t)
	m := newMachine(t, d)
	const there = 30
	for number := uint64(1); number <= there; number++ {
		value, err := encode(Generation{Secret: newSecret(), Created: m.clock, Longest: m.Longest})
		if err != nil {
			t.Fatal(err)
		}
		d.write(t, filepath.Base(nameOf(number)), string(value))
	}
	known, err := m.Read(t.Context(), nil)
	if err != nil || len(known) != there {
		t.Fatalf("%d keys, %v", len(known), err)
	}
	done := make(chan struct{})
	var writing sync.WaitGroup
	t.Cleanup(func() { close(done); writing.Wait() })
	for worker := range 2 {
		writing.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				// As certmagic writes a file, without waiting for the disk.
				temporary := filepath.Join(d.Path, folder, fmt.Sprint(worker, i))
				if os.WriteFile(temporary, nil, 0o600) != nil || os.Rename(temporary, filepath.Join(d.Path, folder, fmt.Sprint("other", worker))) != nil {
					t.Error("can't write")
					return
				}
				if i%20 == 0 {
					time.Sleep(time.Millisecond) // there is a moment in which it can be listed
				}
			}
		})
	}
	wrong := 0 // moments at which the storage was listed in vain
	for deadline := time.Now().Add(5 * time.Second); wrong < 20 && time.Now().Before(deadline); {
		if _, err := d.FileStorage.List(t.Context(), folder, false); errors.Is(err, fs.ErrNotExist) {
			wrong++
		}
		all, err := m.Read(t.Context(), known)
		if err != nil || len(all) != there {
			t.Fatalf("%d keys of %d, %v", len(all), there, err)
		}
	}
}
