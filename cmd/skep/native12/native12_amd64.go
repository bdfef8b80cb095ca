package native12

// addr returns the address of weigh12, which Go must not call: it has the System V convention.
func addr() uintptr
