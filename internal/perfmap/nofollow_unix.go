//go:build unix

package perfmap

import "golang.org/x/sys/unix"

// noFollow makes opening fail where the name is a link, and not wait where it is a pipe.
const noFollow = unix.O_NOFOLLOW | unix.O_NONBLOCK
