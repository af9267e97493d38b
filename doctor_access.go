// SPDX-License-Identifier: Apache-2.0

//go:build linux || darwin || freebsd

package authentiq

// doctor_access.go asks the system whether a folder could be written, without doing it.

import "syscall"

const writeAccess = 2 // W_OK

func mayWrite(folder string) bool { return syscall.Access(folder, writeAccess) == nil }
