// Package frame follows the frames of HTTP/2 and of WebSocket through a stream of bytes. Package drain needs it to know
// where it may write a frame of its own: between two frames of HTTP/2, and between two messages of a WebSocket.
//
// [HTTP2] and [WebSocket] look at one direction of one connection. The bytes may be cut anywhere: Next takes them as they
// come, and keeps of each frame no more than the header and eight bytes. Nothing is read, written or closed here, nothing
// blocks, nothing is allocated, and bytes that break the protocol are followed by their lengths like others.
//
// A value belongs to one goroutine, or to a lock of its owner.
package frame
