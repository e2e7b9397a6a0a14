package sqlite

// Waiting returns the number of writes that wait for another one.
func (e *Engine) Waiting() int { return e.writer.Waiting() }
