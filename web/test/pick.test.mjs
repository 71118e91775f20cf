import assert from 'node:assert/strict'
import test from 'node:test'
import { fileOfView, idOfFolder, isFile, pick } from '../src/client/pick'

const ID = '0198c000-0000-7000-8000-000000000001'
const FILE = { filename: 'ComfyUI_00001_.png', subfolder: '', type: 'output' }
const URL0 = `/mux/v1/jobs/${ID}/outputs/0`

test('what callers call a result', () => {
    const entry = { prompt: [1, ID, {}, {}, []], outputs: { 9: { images: [{ ...FILE, type: 'temp' }] }, 12: { images: [FILE] } }, status: {} }
    for (const [shape, wanted] of [
        [ID, { id: ID, url: null, file: null }],
        ['http://a/b.png', { id: null, url: 'http://a/b.png', file: null }],
        [{ id: ID, status: 'completed', image_url: URL0, outputs: [{ n: 0, url: 'x' }] }, { id: ID, url: URL0, file: null }],
        [{ id: ID, status: 'processing', image_url: null, image_urls: [], outputs: [] }, { id: ID, url: null, file: null }],
        [{ prompt_id: ID }, { id: ID, url: null, file: null }],
        [{ promptId: ID, result: { images: [FILE] } }, { id: ID, url: null, file: FILE }],
        ['ComfyUI_00001_.png', { id: null, url: null, file: FILE }],
        [`${ID}/a b/x.png [temp]`, { id: ID, url: null, file: { filename: 'x.png', subfolder: `${ID}/a b`, type: 'temp' } }],
        ['/x.png', { id: null, url: '/x.png', file: null }],
        ['//host/x.png', { id: null, url: '//host/x.png', file: null }],
        ['view?filename=x.png', { id: null, url: 'view?filename=x.png', file: null }],
        [FILE, { id: null, url: null, file: FILE }],
        [{ filename: 'x.png' }, { id: null, url: null, file: { filename: 'x.png', subfolder: '', type: 'output' } }],
        [{ ...FILE, subfolder: `${ID}.2/sub` }, { id: ID, url: null, file: { ...FILE, subfolder: `${ID}.2/sub` } }],
        [{ images: [FILE] }, { id: null, url: null, file: FILE }],
        [{ images: [{ ...FILE, type: 'temp' }, FILE] }, { id: null, url: null, file: FILE }],
        [[FILE], { id: null, url: null, file: FILE }],
        [entry, { id: ID, url: null, file: FILE }],
        [{ [ID]: entry }, { id: ID, url: null, file: FILE }],
        [{ type: 'executed', data: { node: '9', output: { images: [FILE] }, prompt_id: ID } }, { id: ID, url: null, file: FILE }],
        [{ id: ID, outputs: [{ n: 0, ...FILE, url: URL0 }] }, { id: ID, url: URL0, file: FILE }],
        [{ imageUrl: 'x' }, { id: null, url: 'x', file: null }],
    ])
        assert.deepEqual(pick(shape), wanted, JSON.stringify(shape))
    for (const nothing of [null, undefined, '', '  ', 7, true, {}, [], { images: [] }, { outputs: {} }, { filename: 7 }]) assert.equal(pick(nothing), null)
})

test('what refers to itself ends', () => {
    const loop = {}
    loop.data = loop
    loop.outputs = [loop, loop]
    assert.equal(pick(loop), null)
})

test('virtual folders name their job', () => {
    assert.equal(idOfFolder(ID), ID)
    assert.equal(idOfFolder(`${ID}.3/a/b`), ID)
    for (const s of ['', 'a', `x/${ID}`, ID.toUpperCase(), `${ID}.x`]) assert.equal(idOfFolder(s), null)
})

test('a file is one by its own name and by the virtual one', () => {
    const o = { ...FILE, subfolder: 'sub' }
    assert.ok(isFile(o, ID, { ...FILE, subfolder: 'sub' }))
    assert.ok(isFile(o, ID, { ...FILE, subfolder: `${ID}/sub` }))
    assert.ok(isFile(o, ID, { ...FILE, subfolder: `${ID}.2/sub` }))
    assert.ok(isFile(FILE, ID, { ...FILE, subfolder: ID }))
    assert.ok(!isFile(o, ID, { ...FILE, subfolder: ID }))
    assert.ok(!isFile(o, ID, { ...FILE, subfolder: ID.replace('1', '2') + '/sub' }))
    assert.ok(!isFile(o, ID, { ...FILE, subfolder: 'sub', type: 'temp' }))
    assert.ok(!isFile(o, ID, { ...FILE, subfolder: 'sub', filename: 'y' }))
})

test('URLs of /view name files', () => {
    assert.deepEqual(fileOfView(new URL('http://a:8188/view?filename=x.png&type=temp')), { filename: 'x.png', subfolder: '', type: 'temp' })
    assert.deepEqual(fileOfView(new URL('http://a/api/view?filename=x%20y.png&subfolder=s')), { filename: 'x y.png', subfolder: 's', type: 'output' })
    assert.equal(fileOfView(new URL('http://a/view')), null)
    assert.equal(fileOfView(new URL('http://a/other?filename=x')), null)
})
