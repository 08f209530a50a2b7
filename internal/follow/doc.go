// Package follow reads files that other programs replace or rewrite at any time, such as a file of flags, or a certificate with
// its key. The caller looks at a file in regular intervals. A look returns the content if the content may be new.
//
// # What a look compares
//
// A look takes the file information of the path, and follows symbolic links. The stamp of a file is its device, inode, size,
// time of the last write (mtime) and time of the last change of the inode (ctime). Any difference in the stamp makes the look
// read the content. The size and the mtime alone are not enough: two releases that tar has unpacked can have the same size and
// the same mtime. Programs can set the mtime, but not the ctime. Where the system has no ctime, as Windows, the stamp has the
// other four fields.
//
// If a file changes twice within one tick of the clock of its file system, both changes give the file the same stamp. So each
// look reads the content until 2 seconds have passed since the stamp was first seen. The 2 seconds are measured by the
// monotonic clock of the process: the times of the file are only compared with other times of the file.
//
// # Changes that keep the stamp
//
// Some changes keep every field of the stamp: a write through mapped memory, a write on a file system that does not keep the
// ctime, or a write after somebody has turned the clock back. A network file system may also return old file information.
// Therefore a look now and then reads the content of a file with the same stamp, and compares a hash of 64 bits. This happens 10
// seconds after the last such read. If a read takes more than 10 ms, the time between two reads is 1000 times as long as the
// read, so that at most 0.1 % of the time is spent. But it is never more than 10 minutes. So a change that keeps the stamp is
// found by the first look after 10 seconds, and for a large or slow file by the first look after 10 minutes at the latest.
//
// # What is not read
//
// Only regular files are read. A pipe or a device is never opened, because this could wait, or could have an effect. A file
// larger than MaxSize is not read. A look lasts as long as the file system needs to answer. There is no time limit: a hung
// network file system hangs the look.
package follow
