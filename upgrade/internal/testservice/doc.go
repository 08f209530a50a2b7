// Package testservice has the programs that the test binary of package upgrade plays: a service as users of the library
// write a service, programs for connections with a state and for every kind of socket, a program with tableflip only, and
// the part of systemd that starts a service. Package plan has the settings of the programs, and package testclient
// controls the programs.
package testservice
