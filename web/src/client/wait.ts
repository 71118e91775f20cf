/** How long to wait before try n (from 0): it doubles up to a limit, and differs from window to window. */
export function backoff(n: number, first = 300, most = 5000, random = Math.random): number {
    return Math.min(most, first * 2 ** Math.min(n, 30)) * (0.5 + random() / 2)
}

/** Seconds of a Retry-After as ms, within reason; null: none. */
export function retryAfter(value: string | null): number | null {
    const seconds = value === null || value.trim() === '' ? NaN : Number(value)
    return Number.isFinite(seconds) && seconds >= 0 ? Math.min(seconds * 1000, 30000) : null
}

/** Ends after ms, or when wake is called, or when the signal is aborted. */
export function pause(ms: number, signal: AbortSignal | undefined, onWake?: (wake: () => void) => () => void): Promise<void> {
    return new Promise((resolve) => {
        let forget: (() => void) | undefined
        const end = () => {
            clearTimeout(timer)
            signal?.removeEventListener('abort', end)
            forget?.()
            resolve()
        }
        const timer = setTimeout(end, ms)
        if (signal?.aborted) return end()
        signal?.addEventListener('abort', end)
        forget = onWake?.(end)
    })
}

/** Stops when one of these does, or after `timeout` ms. */
export function anyOf(signals: (AbortSignal | undefined)[], timeout?: number): AbortSignal {
    const stop = new AbortController()
    const all = timeout === undefined ? signals : [...signals, AbortSignal.timeout(timeout)]
    for (const s of all) {
        if (s?.aborted) stop.abort(s.reason)
        s?.addEventListener('abort', () => stop.abort(s.reason), { once: true, signal: stop.signal })
    }
    return stop.signal
}
