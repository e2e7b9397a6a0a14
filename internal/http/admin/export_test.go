package admin

// LimitExport changes the maximum number of lines and bytes of an export.
func (h *Handler) LimitExport(lines, bytes int) { h.export = exportLimits{lines, bytes} }

// HoldExports occupies all slots for exports until the returned function is called.
func (h *Handler) HoldExports() (release func()) {
	for range maxExports {
		h.exports <- struct{}{}
	}
	return func() {
		for range maxExports {
			<-h.exports
		}
	}
}
