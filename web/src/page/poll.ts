// What no event tells of is asked for now and then, only while it is looked at.
import { signal, type Signal } from '@preact/signals'
import { useEffect, useMemo } from 'preact/hooks'
import { get, type ApiError } from './api'
import { listen, type LiveEvent } from './live'

export interface Polled<T> {
    value: Signal<T | null>
    error: Signal<ApiError | null>
    /** Something happened: ask soon. */
    soon: () => void
}

const SOON = 250

/** The JSON at a path: at once, every so many ms, and after what `concerns` says. */
export function usePolled<T>(path: string, every: number, concerns: (e: LiveEvent) => boolean): Polled<T> {
    const p = useMemo(() => {
        const value = signal<T | null>(null)
        const error = signal<ApiError | null>(null)
        const abort = new AbortController()
        let timer = 0
        let busy = false
        let again = false
        const look = async () => {
            timer = 0
            if (document.visibilityState === 'hidden') return
            busy = true
            again = false
            try {
                value.value = await get<T>(path, abort.signal)
                error.value = null
            } catch (e) {
                if (!abort.signal.aborted) error.value = e as ApiError
            } finally {
                busy = false
                if (again) soon()
            }
        }
        const soon = () => {
            if (busy) again = true
            else if (!abort.signal.aborted) timer ||= window.setTimeout(() => void look(), SOON)
        }
        const stop = () => {
            abort.abort()
            clearTimeout(timer)
        }
        return { value, error, soon, look, stop }
    }, [path])
    useEffect(() => {
        const ended = listen((e) => concerns(e) && p.soon())
        const often = setInterval(p.soon, every)
        document.addEventListener('visibilitychange', p.soon)
        void p.look()
        return () => {
            p.stop()
            ended()
            clearInterval(often)
            document.removeEventListener('visibilitychange', p.soon)
        }
    }, [p])
    return p
}
