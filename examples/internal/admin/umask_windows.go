package admin

// privateFiles does nothing: there is no umask.
func privateFiles() (restore func()) { return func() {} }
