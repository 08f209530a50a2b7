// Package quictest tries what upgrade.Upgrader.ListenPacket returns with a QUIC server. It is a module of its own, so that nobody else
// gets that.
package quictest
