// Package frame finds the boundaries of HTTP/2 frames and of WebSocket messages in a stream of bytes. At these boundaries
// package drain can write a frame of its own.
//
// [HTTP2] and [WebSocket] look at a single direction of a single connection. Each call of Next may get any number of bytes.
// Next keeps at most the header and eight more bytes of each frame. The package does not read from the connection, does not
// write to it, does not block and does not allocate. If bytes break the protocol, Next still follows the lengths in the frames.
//
// A value must be used by a single goroutine at a time.
package frame
