// Package testclient is for tests that run the programs of package testservice: Service starts a service and its upgrades,
// Peer is a client with a single connection, Manager plays systemd, and Fault makes a process fail at a step.
package testclient
