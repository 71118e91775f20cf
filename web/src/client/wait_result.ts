import type { TaskResult } from '../client'
import { check } from './error'
import type { Feed } from './feed'
import { ask } from './http'
import { verdict } from './verdict'
import { backoff, pause } from './wait'

const SAFETY = 10000 // ms between two questions while the events tell of the end
const STRANGE = 5 // answers in a row that are not a gateway's

/** Asks for the result, when the events tell that the job has ended, and now and then in any case. */
export async function waitForResult(base: string, id: string, feed: Feed, signal: AbortSignal): Promise<TaskResult> {
    let poked = false
    let wake = () => {}
    const poke = () => {
        poked = true
        wake()
    }
    const forget = feed.listen({
        entry: (e) => {
            if (e.data.job === id && e.event === 'end') poke()
        },
        up: poke,
        gap: poke,
    })
    if (typeof addEventListener === 'function') addEventListener('online', poke)
    try {
        for (let away = 0, strange = 0, asked = 0; ; asked++) {
            poked = false
            const v = verdict(await ask(`${base}result/${id}`, {}, signal), id)
            if (v.is === 'done') return v.body as unknown as TaskResult
            if (v.is === 'failed') throw v.error
            strange = v.is === 'strange' ? strange + 1 : 0
            if (v.is === 'strange' && strange === STRANGE) throw v.error
            away = v.is === 'waiting' ? 0 : away + 1
            const ms = away > 0 ? Math.max(v.is === 'away' ? v.ms : 0, backoff(away - 1))
                : feed.isUp ? SAFETY * (0.8 + Math.random() * 0.4)
                : backoff(asked, 500, 3000)
            if (!poked || away > 0)
                await pause(ms, signal, (end) => {
                    wake = end
                    return () => {
                        wake = () => {}
                    }
                })
            check(signal, id)
        }
    } finally {
        forget()
        if (typeof removeEventListener === 'function') removeEventListener('online', poke)
    }
}
