import assert from 'node:assert/strict'
import test from 'node:test'
import { errorOf } from '../src/client/http'
import { requestOf } from '../src/client/submit'
import { isUuid, uuid } from '../src/client/uuid'
import { verdict } from '../src/client/verdict'
import { anyOf, backoff, pause, retryAfter } from '../src/client/wait'

const ID = '0198c000-0000-7000-8000-000000000001'
const answer = (status, body, retryAfter = null) => ({ status, body, retryAfter })
const body = (status, more = {}) => ({ id: ID, status, message: 'A sentence', image_url: null, image_urls: [], error: null, ...more })
const failed = (code) => body('failed', { error: { code, message: 'the cause', detail: { node: '3' } } })

test('answers of /result', () => {
    const done = body('completed', { image_url: '/x', image_urls: ['/x'] })
    for (const [a, is, code] of [
        [answer(200, done), 'done'],
        [answer(202, body('queued')), 'waiting'],
        [answer(202, body('fetching_image')), 'waiting'],
        [answer(422, failed('execution_error')), 'failed', 'execution_error'],
        [answer(422, failed('no_image_output')), 'failed', 'no_image_output'],
        [answer(502, failed('server_lost')), 'failed', 'server_lost'],
        [answer(500, failed('storage_failed')), 'failed', 'storage_failed'],
        [answer(409, body('canceled', { error: { code: 'canceled', message: 'x' } })), 'failed', 'canceled'],
        [answer(410, body('completed', { image_url: '/x', error: { code: 'expired', message: 'gone' } })), 'failed', 'expired'],
        [answer(404, { error: { code: 'not_found', message: 'there is no job of this id' } }), 'failed', 'not_found'],
        // nobody, the gateway about to stop or to start, or a proxy in its place
        [null, 'away'],
        [answer(503, { error: { code: 'not_ready', message: 'x' } }, 5000), 'away'],
        [answer(500, { error: { code: 'internal', message: 'x' } }), 'away'],
        [answer(502, undefined), 'away'],
        [answer(504, undefined), 'away'],
        [answer(429, undefined), 'away'],
        // somebody else
        [answer(200, undefined), 'strange', 'bad_answer'],
        [answer(404, undefined), 'strange', 'bad_answer'],
        [answer(401, { error: 'no' }), 'strange', 'bad_answer'],
        // never an empty image, and never another job's
        [answer(200, body('completed')), 'strange'],
        [answer(200, { ...done, id: 'another' }), 'strange'],
        [answer(200, body('processing', { image_url: '/x' })), 'strange'],
    ]) {
        const v = verdict(a, ID)
        assert.equal(v.is, is, JSON.stringify(a))
        if (code) assert.equal(v.error.code, code)
        if (is === 'failed') assert.equal(v.error.promptId, ID)
    }
    assert.equal(verdict(answer(503, {}, 7000), ID).ms, 7000)
    const e = verdict(answer(422, failed('execution_error')), ID).error
    assert.equal(e.message, 'A sentence (the cause)')
    assert.deepEqual([e.status, e.detail, e.name, e.body.id], [422, { node: '3' }, 'MuxError', ID])
    assert.ok(e instanceof Error)
})

test('a refused workflow says by which node', () => {
    const e = errorOf(answer(400, {
        error: { type: 'prompt_outputs_failed_validation', message: 'Prompt outputs failed validation', details: 'd', extra_info: {} },
        node_errors: { 9: { errors: [] } },
    }), ID)
    assert.deepEqual([e.code, e.status, Object.keys(e.nodeErrors), e.message], ['prompt_outputs_failed_validation', 400, ['9'], 'Prompt outputs failed validation: d'])
    assert.equal(errorOf(answer(400, undefined), ID).code, 'bad_answer')
})

test('a submit names its window in a header, or where that cannot be in the prompt', () => {
    const of = (windowId, options = {}) => {
        const r = requestOf({ 1: {} }, ID, options, { windowId, clientId: 'c' })
        return [r.headers['X-Comfymux-Window'], JSON.parse(r.body)]
    }
    assert.deepEqual(of('window 7', { extraData: { a: 1 } }), ['window 7', { prompt: { 1: {} }, client_id: 'c', prompt_id: ID, extra_data: { a: 1 } }])
    for (const name of ['Fenster zwölf', ' x', 'x ', '窓', 'a\nb']) {
        const [header, sent] = of(name)
        assert.equal(header, undefined)
        assert.equal(sent.extra_data.window_id, name)
    }
    assert.equal(requestOf({}, ID, {}, { windowId: 'w', clientId: 'c' }).body, requestOf({}, ID, {}, { windowId: 'w', clientId: 'c' }).body)
})

test('waiting', async () => {
    for (let n = 0; n < 2000; n++) {
        const ms = backoff(n)
        assert.ok(ms >= Math.min(5000, 300 * 2 ** n) / 2 && ms <= 5000, `${n}: ${ms}`)
    }
    assert.notEqual(backoff(3), backoff(3))
    assert.deepEqual(['5', '0', '1e9', '', 'soon', null, '-1'].map(retryAfter), [5000, 0, 30000, null, null, null, null])
    const stop = new AbortController()
    let wake
    let forgotten = 0
    const woken = pause(1e6, stop.signal, (end) => {
        wake = end
        return () => forgotten++
    })
    wake()
    await woken
    const stopped = pause(1e6, stop.signal, () => () => forgotten++)
    stop.abort()
    await stopped
    await pause(1e6, stop.signal)
    assert.equal(forgotten, 2)
    const one = new AbortController()
    const any = anyOf([one.signal, undefined])
    one.abort('why')
    assert.equal(any.reason, 'why')
    assert.equal(anyOf([one.signal]).aborted, true)
})

test('ids are UUIDs, and differ', () => {
    const ids = new Set(Array.from({ length: 1000 }, uuid))
    assert.equal(ids.size, 1000)
    for (const id of ids) assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
    assert.ok(isUuid(uuid()))
    for (const no of ['', 'x', uuid().toUpperCase(), `${uuid()}0`, 7, null]) assert.ok(!isUuid(no))
})
