// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/caddyserver/certmagic"
)

const (
	listTries = 20
	listPause = 10 * time.Millisecond
)

// List returns the names of the objects in a folder of Caddy's storage, and none if
// there is no such folder.
//
// A file system that is listed while somebody gives a file there its name may say
// that it does not exist, as if the folder did not. What was found by then is not
// all there is.
func List(ctx context.Context, storage certmagic.Storage, folder string, recursive bool) ([]string, error) {
	for try := 1; ; try++ {
		names, err := storage.List(ctx, folder, recursive)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return names, err
		}
		if !storage.Exists(ctx, folder) {
			return nil, nil
		}
		if try == listTries {
			return nil, err
		}
		if stopped := pause(ctx, listPause); stopped != nil {
			return nil, stopped
		}
	}
}
