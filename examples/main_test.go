// SPDX-License-Identifier: Apache-2.0

package examples

import (
	"testing"

	"github.com/authentiq/caddy-authentiq/internal/testrig"
)

func TestMain(m *testing.M) { testrig.Main(m) }
