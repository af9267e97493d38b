// SPDX-License-Identifier: Apache-2.0

package revocation

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/authentiq/caddy-authentiq/internal/store"
)

// What the size of the list makes of a request's look at it, and of the memory.
func BenchmarkRevoked(b *testing.B) {
	c := NewClient("https://op.example/", "a-client")
	sessions := make([]Session, 1<<16)
	for i := range sessions {
		n := "s" + strconv.Itoa(i)
		sessions[i] = c.Session(n, n, n, 100, 100)
	}
	for _, size := range []int{0, 1, 1_000, 100_000, 1_000_000} {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		m := filled(c, size)
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if m.Revoked(&sessions[i&(len(sessions)-1)]) {
					b.Fatal("revoked")
				}
				i += 7919
			}
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB")
		})
		b.Run(fmt.Sprintf("%d, all processors", size), func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				i := 0
				for pb.Next() {
					m.Revoked(&sessions[i&(len(sessions)-1)])
					i += 7919
				}
			})
		})
	}
}

func filled(c *Client, size int) *Memory {
	m := NewMemory(time.Now, DefaultMax)
	until := time.Now().Add(time.Hour)
	for i := range size {
		e := c.Entry(SID, strconv.Itoa(i), 1000, 0, until)
		m.add(&e, 0)
	}
	return m
}

// What a flood of new entries costs.
func BenchmarkAdd(b *testing.B) {
	c := NewClient("https://op.example/", "a-client")
	m := NewMemory(time.Now, DefaultMax)
	until := time.Now().Add(time.Hour)
	i := 0
	for b.Loop() {
		e := c.Entry(SID, strconv.Itoa(i), 1000, 0, until)
		m.add(&e, 0)
		i++
	}
}

// What a flood of sign-outs costs until each of them is on the disk.
func BenchmarkRevokeIntoStorage(b *testing.B) {
	for _, callers := range []int{1, 100} {
		b.Run(fmt.Sprintf("%d at once", callers), func(b *testing.B) {
			j, err := NewList(time.Now, DefaultMax).Journal("storage")
			if err != nil {
				b.Fatal(err)
			}
			in := (&store.Storage{Storage: &certmagic.FileStorage{Path: b.TempDir()}, Now: time.Now}).Journal("signouts")
			ctx, cancel := context.WithCancel(b.Context())
			var running, calling sync.WaitGroup
			running.Go(func() { j.Run(ctx, in, func(error) {}) })
			c := NewClient("https://op.example/", "a-client")
			until := time.Now().Add(time.Hour)
			var next atomic.Int64
			b.ResetTimer()
			for range callers {
				calling.Go(func() {
					for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
						if err := j.Revoke(ctx, c.Entry(SID, strconv.FormatInt(i, 10), 1000, 0, until)); err != nil {
							b.Error(err)
						}
					}
				})
			}
			calling.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
			cancel()
			running.Wait()
		})
	}
}
