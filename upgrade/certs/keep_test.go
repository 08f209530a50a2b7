package certs_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midair-go/midair/internal/kept"
	"github.com/midair-go/midair/upgrade/certs"
)

var (
	_ encoding.BinaryMarshaler   = (*certs.Certs)(nil)
	_ encoding.BinaryUnmarshaler = (*certs.Certs)(nil)
)

// letters returns the secrets of the keys in the order of use, without the keys that the Certs have made.
func letters(c *certs.Certs) string {
	var out []byte
	for _, k := range c.Keys() {
		if k.Secret != 0 {
			out = append(out, k.Secret)
		}
	}
	return string(out)
}

// ago returns a key that began to encrypt the given number of days ago.
func ago(secret byte, days float64) certs.Key {
	return certs.Key{From: time.Now().Add(-time.Duration(days * float64(day))), Secret: secret}
}

// Keys from other processes are added: the newest key encrypts, no key that is still accepted is forgotten, and no key that is
// too old is added. The same keys may come again, in any order.
func TestKeysOfTwoProcessesAreAdded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		snapshot := certs.Encode(ago('a', -0.9), ago('b', 0.1), ago('c', 1.1), ago('d', 6.9), ago('x', 7.1))
		fresh := certs.Encode(ago('e', 0.05), ago('b', 0.02), ago('f', 3))
		for _, order := range [][]int{{0, 1}, {1, 0}, {0, 1, 0, 1}, {1, 1, 0}} {
			c := newFiles(t, identity{}).open(certs.Options{})
			for _, i := range order {
				must(t, c.UnmarshalBinary([][]byte{snapshot, fresh}[i]))
			}
			if got := letters(c); got != "eabcfd" {
				t.Errorf("order %v: the keys are %q, the first one encrypts", order, got)
			}
		}
	})
}

// A process keeps its own keys when it gets other keys, as the old process does after an abort.
func TestOwnKeysStayWhenOthersAreAdded(t *testing.T) {
	c := newFiles(t, issue(t, "one")).open(certs.Options{})
	own := c.Keys()
	must(t, c.UnmarshalBinary(certs.Encode(ago('a', 2), ago('b', -0.5))))
	if all := c.Keys(); !slices.Contains(all, own[0]) || !slices.Contains(all, own[1]) || letters(c) != "ba" {
		t.Errorf("%v became %v", own, all)
	}
	must(t, c.UnmarshalBinary(certs.Encode()))
	if len(c.Keys()) != 4 {
		t.Errorf("no keys at all: %v are left", c.Keys())
	}
}

// Keys of many other processes do not make the number of keys grow without limit. The newest keys stay.
func TestStrangeKeysDoNotPileUp(t *testing.T) {
	f := newFiles(t, issue(t, "one"))
	c := f.open(certs.Options{})
	for i := range 3 * certs.MaxKeys {
		must(t, c.UnmarshalBinary(certs.Encode(ago(byte(i), 6-float64(i)/100))))
	}
	if all := c.Keys(); len(all) != certs.MaxKeys || all[2].Secret != 3*certs.MaxKeys-1 {
		t.Errorf("%d keys: %v", len(all), all)
	}
	for i := range 3 * certs.MaxKeys {
		must(t, c.UnmarshalBinary(certs.Encode(ago(byte(i), -0.5-float64(i)/100))))
	}
	if all := c.Keys(); len(all) != certs.MaxKeys || all[0].From.After(time.Now()) {
		t.Errorf("%d keys, the first encrypts before its time: %v", len(all), all)
	}
}

// A key that was made while the clock was fast counts from now on: its tickets are accepted, and the key does not stay for
// ever.
func TestAKeyFromAClockThatWasAheadCountsFromNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFiles(t, identity{}).open(certs.Options{})
		must(t, c.UnmarshalBinary(certs.Encode(ago('a', -300))))
		if k := c.Keys()[0]; k.Secret != 'a' || !k.From.Equal(time.Now()) {
			t.Errorf("%v encrypts", k)
		}
		must(t, c.UnmarshalBinary(certs.Encode(ago('a', -300))))
		time.Sleep(7 * day)
		if got := letters(c); got != "" {
			t.Errorf("a week later it is still among %q", got)
		}
	})
}

// The format is the format of the builds that are in use: the new build reads their data, and they can read its data.
func TestOlderAndNewerBuildsUnderstandEachOther(t *testing.T) {
	const golden = "6d69646169722d636572747300" + "01" + "0002" +
		"0d234ccf52430000" + "6161616161616161616161616161616161616161616161616161616161616161" +
		"0d239b63e3920000" + "6262626262626262626262626262626262626262626262626262626262626262" +
		"f70fa2c9f5e3bc2c80457b5186e1942ac1a9dfaf88ca76a501de8925808a5808"
	const empty = "6d69646169722d636572747300" + "01" + "0000" + "149d9644c070e0aa73d8245302e7e5d5ed2ec8a9b5524a27aa82f9656b7749e0"
	data, err := hex.DecodeString(golden)
	must(t, err)
	synctest.Test(t, func(t *testing.T) { // in the bubble the time is 946684800 seconds after 1970
		a, b := ago('a', 0), ago('b', -1)
		if got := hex.EncodeToString(certs.Encode(a, b)); got != golden {
			t.Errorf("two keys are %s", got)
		}
		if got := hex.EncodeToString(certs.Encode()); got != empty {
			t.Errorf("no keys are %s", got)
		}
		longer := signed(append(bytes.Clone(data[:len(data)-sha256.Size]), "what a later version adds"...))
		for _, sent := range [][]byte{data, longer} {
			c := newFiles(t, identity{}).open(certs.Options{})
			must(t, c.UnmarshalBinary(sent))
			again, err := c.MarshalBinary()
			must(t, err)
			if got := c.Keys(); len(got) != 2 || got[0].Secret != 'a' || got[1].Secret != 'b' || !bytes.Equal(again, data) {
				t.Errorf("the keys are %v, sent on as %x", got, again)
			}
		}
	})
}

// signed adds the checksum.
func signed(body []byte) []byte {
	sum := sha256.Sum256(body)
	return append(bytes.Clone(body), sum[:]...)
}

// Damaged or unknown data is refused with an error that tells what to do. The keys do not change.
func TestDamagedStateIsRefusedAndChangesNothing(t *testing.T) {
	c := newFiles(t, issue(t, "one")).open(certs.Options{})
	good, err := c.MarshalBinary()
	must(t, err)
	body := good[:len(good)-sha256.Size]
	flipped := bytes.Clone(good)
	flipped[20] ^= 1
	other := bytes.Replace(body, []byte("certs"), []byte("flags"), 1)
	longer := bytes.Clone(body)
	longer[15]++
	for _, b := range [][]byte{nil, {}, []byte("x"), good[:40], good[:len(good)-1], append(bytes.Clone(good), 0), flipped,
		signed(other), signed(longer), signed(body[:len(body)-1]), signed(body[:15]), signed(body[:13]), signed(nil)} {
		err := c.UnmarshalBinary(b)
		if !errors.Is(err, kept.ErrDamaged) && !errors.Is(err, kept.ErrForeign) {
			t.Errorf("%x: %v", b, err)
		}
		mustContain(t, err, "stop and start the service once")
	}
	newer := bytes.Clone(body)
	newer[13] = 2
	err = c.UnmarshalBinary(signed(newer))
	mustContain(t, err, "of a later format: stop and start the service once")
	mustContain(t, err, "version 2, this process reads up to 1")
	if again, err := c.MarshalBinary(); err != nil || !bytes.Equal(again, good) {
		t.Errorf("something has changed: %v", err)
	}
}

// The private key of the certificate is not in the data for another process.
func TestThePrivateKeyIsNotHandedOver(t *testing.T) {
	id := issue(t, "one")
	c := newFiles(t, id).open(certs.Options{})
	newClient(t, tls.VersionTLS13, id).visit(c)
	data, err := c.MarshalBinary()
	must(t, err)
	pair, err := tls.X509KeyPair(id.cert, id.key)
	must(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	must(t, err)
	b, _ := pem.Decode(id.key)
	if !bytes.Equal(b.Bytes, der) || bytes.Contains(data, der[len(der)-100:]) || bytes.Contains(data, der[36:68]) || len(data) > 200 {
		t.Errorf("it is in the %d bytes that are handed over", len(data))
	}
}

// Another generation may send any data: nothing panics, and refused data changes nothing. Afterwards there is a key that
// encrypts, and there are not too many keys.
func FuzzUnmarshalBinary(f *testing.F) {
	f.Add([]byte{}, true)
	f.Add(certs.Encode(), false)
	f.Add(certs.Encode(ago('a', 0), ago('b', -1), ago('c', 8)), false)
	f.Add([]byte("midair-certs\x00\x01\xff\xff"), true)
	f.Add([]byte("midair-certs\x00\x02"), true)
	files := newFiles(f, issue(f, "one"))
	f.Fuzz(func(t *testing.T, data []byte, sign bool) {
		if sign {
			data = signed(data)
		}
		files.t = t
		c := files.open(certs.Options{})
		before := c.Keys()
		err := c.UnmarshalBinary(data)
		keys := c.Keys()
		if len(keys) < 2 || len(keys) > certs.MaxKeys || keys[0].From.After(time.Now()) || time.Since(keys[0].From) > day {
			t.Fatalf("%v: the keys are %v", err, keys)
		}
		if err != nil && !slices.Equal(before, keys) {
			t.Fatalf("%v has changed %v to %v", err, before, keys)
		}
	})
}
