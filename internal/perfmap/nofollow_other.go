//go:build !unix

package perfmap

const noFollow = 0
