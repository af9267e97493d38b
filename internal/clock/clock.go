// SPDX-License-Identifier: Apache-2.0

// Package clock tells the time, and lets tests say what it is.
package clock

import (
	"sync/atomic"
	"time"
)

// Clock tells the time. The zero value is the machine's.
type Clock struct {
	fake atomic.Pointer[func() time.Time]
}

// Now is the time.
func (c *Clock) Now() time.Time {
	if now := c.fake.Load(); now != nil {
		return (*now)()
	}
	return time.Now()
}

// Set has now tell the time from now on; nil is the machine again.
func (c *Clock) Set(now func() time.Time) {
	if now == nil {
		c.fake.Store(nil)
		return
	}
	c.fake.Store(&now)
}
