package admin

// LimitExport changes how many lines and bytes an export may have.
func (h *Handler) LimitExport(lines, bytes int) { h.export = exportLimits{lines, bytes} }

// HoldExports takes all places of exports until the function that it returns is called.
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
