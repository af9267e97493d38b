// SPDX-License-Identifier: Apache-2.0

// Package examples has applications behind the gate, a folder each: what is shown
// there is what its tests run.
package examples
