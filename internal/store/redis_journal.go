// SPDX-License-Identifier: Apache-2.0

package store

// This file keeps journals in Redis: each in one sorted set, by the times when its
// records are over, and on the channel of the same name, which tells what comes.
// The set also counts what was told, so that whoever listens can see that nothing
// was missed. That is why the counter is in it: if the set is lost, both are.

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	journalBatch = 1000    // records that are written or read at once
	maxUntil     = 1 << 53 // what a score, which is a float, tells apart

	// askEvery is how often it is made sure that nothing was missed, and silence
	// how long a connection without any answer counts as one.
	askEvery = 3 * time.Second
	silence  = 2 * askEvery
)

// The value whose score counts.
const counter = ""

// appendScript writes records and tells of them at once. A counter that is new
// begins with the time in milliseconds, so that it is never behind one that was lost
// before, nor among the times of records, which are in seconds.
//
// It writes with one command, and what it tells is not for replicas: Redis 7.0 would
// log two as a transaction, and leaves out transactions when it starts with a default
// user that is off (it asks whether that user may), which is how all would be lost.
var appendScript = redis.NewScript(`
local number = tonumber(redis.call('ZSCORE', KEYS[1], '') or ARGV[1]) + 1
redis.call('ZADD', KEYS[1], 'GT', string.format('%.0f', number), '', unpack(ARGV, 3))
redis.set_repl(redis.REPL_NONE)
redis.call('PUBLISH', KEYS[1], string.format('%.0f:', number) .. ARGV[2])
return 1`)

// redisJournal is a Journal in Redis.
type redisJournal struct {
	s    *Redis
	name string // of the set, and of the channel
}

// Journal implements Journals.
func (s *Redis) Journal(name string) Journal {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.journals[name]
	if j == nil {
		j = &redisJournal{s, "authentiq:journal:" + name}
		s.journals[name] = j
	}
	return j
}

// Append implements Journal.
func (j *redisJournal) Append(ctx context.Context, records []Record) error {
	now := j.s.now()
	for len(records) > 0 {
		batch := records[:min(len(records), journalBatch)]
		records = records[len(batch):]
		var message []byte
		args := []any{now.UnixMilli(), nil}
		for _, r := range batch {
			if len(r.Value) == 0 || len(r.Value) > MaxRecord || r.Until > maxUntil {
				return fmt.Errorf("a journal takes no record of %d bytes until %d", len(r.Value), r.Until)
			}
			if r.Until <= now.Unix() {
				continue
			}
			message = appendRecord(message, r)
			args = append(args, r.Until, r.Value)
		}
		if message == nil {
			continue
		}
		args[1] = message
		if err := appendScript.Run(ctx, j.s.client, []string{j.name}, args...).Err(); err != nil {
			return j.s.failed("writing to", err)
		}
	}
	return nil
}

// appendRecord adds a record to a message: when it is over, how long it is, itself.
func appendRecord(message []byte, r Record) []byte {
	message = binary.BigEndian.AppendUint64(message, uint64(r.Until))
	return append(append(message, byte(len(r.Value))), r.Value...)
}

// readMessage is the other way, with the number that the script puts in front.
func readMessage(message string) (number int64, records []Record, ok bool) {
	digits, rest, _ := strings.Cut(message, ":")
	number, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || rest == "" {
		return 0, nil, false
	}
	const head = 8 + 1
	for len(rest) > 0 {
		if len(rest) < head || len(rest) < head+int(rest[8]) {
			return 0, nil, false
		}
		until := binary.BigEndian.Uint64([]byte(rest[:8]))
		end := head + int(rest[8])
		records = append(records, Record{rest[head:end], int64(until)})
		rest = rest[end:]
	}
	return number, records, true
}

// sweep removes what is over.
func (j *redisJournal) sweep(ctx context.Context) error {
	return j.s.client.ZRemRangeByScore(ctx, j.name, "0", strconv.FormatInt(j.s.now().Unix(), 10)).Err()
}

// count returns how many messages were told, where client is. Without a set that is
// none.
func (j *redisJournal) count(ctx context.Context, client redis.Cmdable) (int64, error) {
	score, err := client.ZScore(ctx, j.name, counter).Result()
	if errors.Is(err, redis.Nil) {
		return 0, nil
	}
	return int64(score), err
}

var (
	errMissed   = errors.New("a message was missed")
	errWentBack = errors.New("it has lost what it had")
	errReplaced = errors.New("the connection was replaced")
)

// Follow implements Journal.
func (j *redisJournal) Follow(ctx context.Context, learned func([]Record, Stage)) error {
	ctx, end := context.WithCancelCause(ctx)
	f := &follower{j: j, learned: learned, messages: j.s.client.Subscribe(ctx)}
	// Nothing else ends a wait for messages.
	closed := make(chan struct{})
	context.AfterFunc(ctx, func() {
		_ = f.messages.Close()
		close(closed)
	})
	err := f.follow(ctx, end)
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	end(err)
	f.asking.Wait()
	<-closed
	return j.s.failed("following what is told by", err)
}

// follower is a call of Follow. Its connection for messages must never be replaced
// by another, as the client would do by itself: what was told meanwhile would be
// missed. So every error ends it.
type follower struct {
	j        *redisJournal
	learned  func([]Record, Stage)
	messages *redis.PubSub
	last     atomic.Int64 // the number of the message up to which all is known
	asking   sync.WaitGroup
}

// follow listens first and reads then. What is told meanwhile waits in Redis, which
// closes the connection of one that is too slow; nothing is lost unseen.
func (f *follower) follow(ctx context.Context, end context.CancelCauseFunc) error {
	if err := f.messages.Subscribe(ctx, f.j.name); err != nil {
		return err
	}
	got, err := f.messages.ReceiveTimeout(ctx, f.j.s.silence)
	if err != nil {
		return err
	}
	if _, ok := got.(*redis.Subscription); !ok {
		return errReplaced
	}
	rest, err := f.read(ctx)
	if err != nil {
		return err
	}
	// That it was whole is certain once it is known that the connection has lasted.
	if err := f.ask(ctx); err != nil {
		return err
	}
	stage := Part
	for {
		got, err := f.messages.ReceiveTimeout(ctx, f.j.s.silence)
		if err != nil {
			return err
		}
		switch got := got.(type) {
		case *redis.Message:
			number, records, ok := readMessage(got.Payload)
			if !ok {
				continue // nobody who writes here has sent it
			}
			switch last := f.last.Load(); {
			case number == last+1:
				f.last.Store(number)
				f.learned(f.j.valid(records), stage)
			case number > last || stage == News:
				return errMissed
			default: // it was told before the first number was read, so it was read
			}
		case *redis.Pong:
			if number, err := strconv.ParseInt(got.Payload, 10, 64); err != nil || f.last.Load() < number {
				return errMissed
			}
			if stage == News {
				f.learned(nil, News)
				continue
			}
			f.learned(rest, Whole)
			stage = News
			f.asking.Go(func() { end(f.keepAsking(ctx)) })
		default:
			return errReplaced
		}
	}
}

// read tells all that there is but the last part, which it returns. All of it is
// from one connection: another Redis does not know how far the first was.
func (f *follower) read(ctx context.Context) (rest []Record, err error) {
	client, ok := f.j.s.client.(*redis.Client)
	if cluster, is := f.j.s.client.(*redis.ClusterClient); is {
		if client, err = cluster.MasterForKey(ctx, f.j.name); err != nil {
			return nil, err
		}
	} else if !ok {
		return nil, errors.ErrUnsupported
	}
	conn := client.Conn()
	defer conn.Close()
	// Without a counter the first message would seem to follow others.
	if err := conn.ZAddNX(ctx, f.j.name, redis.Z{Score: float64(f.j.s.now().UnixMilli()), Member: counter}).Err(); err != nil {
		return nil, err
	}
	number, err := f.j.count(ctx, conn)
	if err != nil {
		return nil, err
	}
	f.last.Store(number)
	for cursor := uint64(0); ; {
		var values []string
		if values, cursor, err = conn.ZScan(ctx, f.j.name, cursor, "", journalBatch).Result(); err != nil {
			return nil, err
		}
		records := make([]Record, 0, len(values)/2)
		for ; len(values) >= 2; values = values[2:] {
			if until, err := strconv.ParseFloat(values[1], 64); err == nil && values[0] != counter {
				records = append(records, Record{values[0], int64(until)})
			}
		}
		records = f.j.valid(records)
		if cursor == 0 {
			return records, nil
		}
		f.learned(records, Part)
	}
}

// valid leaves out what is over.
func (j *redisJournal) valid(records []Record) []Record {
	now := j.s.now().Unix()
	left := records[:0]
	for _, r := range records {
		if r.Until > now {
			left = append(left, r)
		}
	}
	return left
}

// ask sends a question that comes back behind all that was told until now, with the
// number of the last of that. The number is from where records are written to; the
// connection for messages may lead to a Redis that they no longer reach.
func (f *follower) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, min(redisTimeout, f.j.s.silence))
	defer cancel()
	last := f.last.Load()
	number, err := f.j.count(ctx, f.j.s.client)
	if err != nil {
		return err
	}
	if number < last {
		return errWentBack
	}
	return f.messages.Ping(ctx, strconv.FormatInt(number, 10))
}

func (f *follower) keepAsking(ctx context.Context) error {
	every := time.NewTicker(f.j.s.askEvery)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-every.C:
			if err := f.ask(ctx); err != nil {
				return err
			}
		}
	}
}
