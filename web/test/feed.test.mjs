import assert from 'node:assert/strict'
import test from 'node:test'
import { Feed } from '../src/client/feed'

/** The gateway's streams: each request is kept, and answered as the test wants. */
class Gateway {
    constructor() {
        this.asked = []
        this.waiting = []
        globalThis.fetch = (url, { signal }) => new Promise((resolve, reject) => {
            const stream = { url: new URL(url), signal }
            stream.open = () => {
                const body = new ReadableStream({ start: (c) => { stream.body = c } })
                signal.addEventListener('abort', () => { try { stream.body.error(new Error('aborted')) } catch { /* closed */ } })
                resolve(new Response(body, { headers: { 'Content-Type': 'text/event-stream' } }))
            }
            stream.refuse = (status) => resolve(new Response('no', { status }))
            stream.fail = () => reject(new TypeError('network'))
            stream.say = (id, event, data) => stream.body.enqueue(new TextEncoder().encode(`${id === null ? '' : `id: ${id}\n`}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`))
            stream.cut = () => stream.body.error(new Error('cut'))
            signal.addEventListener('abort', () => reject(new Error('aborted')))
            this.asked.push(stream)
            this.waiting.shift()?.()
        })
    }

    async next() {
        const n = this.taken = (this.taken ?? 0) + 1
        while (this.asked.length < n) await new Promise((resolve) => this.waiting.push(resolve))
        return this.asked[n - 1]
    }
}

function window(base) {
    const feed = new Feed(base)
    const news = []
    let wake = () => {}
    const tell = (what) => {
        news.push(what)
        wake()
    }
    feed.listen({ entry: (e) => tell(`${e.event} ${e.id}`), up: (up) => tell(up ? 'up' : 'down'), gap: () => tell('gap') })
    const until = async (what) => {
        while (!news.includes(what)) await new Promise((resolve) => { wake = resolve })
        return news.splice(0, news.indexOf(what) + 1)
    }
    return { feed, news, until, release: feed.want() }
}

let places = 0
const place = () => `http://gateway-${places++}/`

test('one of two reads, both are told, and the other goes on where it was', { timeout: 20000 }, async () => {
    const gateway = new Gateway()
    const base = place()
    const [one, two] = [window(base), window(base)]
    const none = await gateway.next()
    assert.equal(none.url.href, `${base}mux/v1/events`)
    none.open()
    for (const w of [one, two]) assert.deepEqual(await w.until('gap'), ['up', 'gap'])
    for (const w of [one, two]) w.news.length = 0
    none.cut() // before there was an entry to go on after
    const first = await gateway.next()
    assert.equal(first.url.search, '')
    first.open()
    for (const w of [one, two]) assert.ok((await w.until('down')) && (await w.until('gap')))
    first.say('41', 'state', { job: 'a' })
    first.say(null, 'progress', { job: 'a' })
    first.say('42', 'end', { job: 'a' })
    for (const w of [one, two]) assert.deepEqual((await w.until('end 42')).filter((n) => n !== 'gap'), ['state 41', 'progress null', 'end 42'])
    assert.equal(gateway.asked.length, 2)

    const leader = one.feed.reading ? one : two
    const other = leader === one ? two : one
    leader.feed.end()
    assert.ok(first.signal.aborted)
    const second = await gateway.next()
    assert.equal(second.url.searchParams.get('last_event_id'), '42')
    second.open()
    second.say('43', 'state', { job: 'b' })
    assert.deepEqual((await other.until('state 43')).filter((n) => !/up|down/.test(n)), ['state 43'], 'nothing is missing, so nothing is asked for')
    other.feed.end()
})

test('it comes back after every kind of failure, after the entry it had last', { timeout: 20000 }, async () => {
    const gateway = new Gateway()
    const w = window(place())
    ;(await gateway.next()).fail()
    ;(await gateway.next()).refuse(503)
    const third = await gateway.next()
    assert.equal(third.url.search, '')
    third.open()
    third.say('opaque/7', 'state', { job: 'a' })
    assert.deepEqual(await w.until('state opaque/7'), ['up', 'gap', 'state opaque/7'])
    third.cut()
    assert.deepEqual(await w.until('down'), ['down'])
    const fourth = await gateway.next()
    assert.equal(fourth.url.searchParams.get('last_event_id'), 'opaque/7')
    fourth.open()
    fourth.say('9', 'reset', { jobs: {} })
    assert.deepEqual(await w.until('gap'), ['up', 'reset 9', 'gap'])
    fourth.say('9', 'reset', { jobs: {} })
    fourth.say('10', 'state', { job: 'a' })
    fourth.body.close()
    assert.deepEqual(await w.until('down'), ['gap', 'state 10', 'down'], 'what came before does not come again')
    assert.equal((await gateway.next()).url.searchParams.get('last_event_id'), '10')
    w.feed.end()
})

test('there is no stream when nobody wants one', { timeout: 20000 }, async () => {
    const gateway = new Gateway()
    const w = window(place())
    const stream = await gateway.next()
    stream.open()
    await w.until('gap')
    const more = w.feed.want()
    w.release()
    w.release()
    assert.equal(stream.signal.aborted, false)
    more()
    await new Promise((resolve) => stream.signal.addEventListener('abort', resolve))
    assert.equal(w.feed.isUp, false)
})
