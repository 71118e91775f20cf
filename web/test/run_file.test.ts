// Workflows in files: where pictures keep them, and what is recognised as one.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { deflateSync } from 'node:zlib'
import { stringify } from '../src/page/json_text'
import { FileError, readCarried } from '../src/page/run_file'
import { fromText, NoWorkflow, recognise } from '../src/page/run_workflow'

const latin = (s: string): Buffer => Buffer.from(s, 'latin1')
const PROMPT = '{"1": {"class_type": "KSampler", "inputs": {"seed": 18446744073709551615, "cfg": 5.0}}}'
const DRAWING = '{"nodes": [], "links": []}'

function png(...chunks: [string, Buffer][]): Uint8Array {
    const parts = [Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])]
    for (const [type, data] of [['IHDR', Buffer.alloc(13)] as [string, Buffer], ...chunks, ['IEND', Buffer.alloc(0)] as [string, Buffer]]) {
        const head = Buffer.alloc(8)
        head.writeUInt32BE(data.length)
        head.write(type, 4, 'latin1')
        parts.push(head, data, Buffer.alloc(4))
    }
    return Buffer.concat(parts)
}

function exif(little: boolean, tags: [number, string][]): Buffer {
    const u16 = (v: number) => Buffer.from(little ? [v & 255, v >> 8] : [v >> 8, v & 255])
    const u32 = (v: number) => (little ? Buffer.concat([u16(v & 0xffff), u16(v >>> 16)]) : Buffer.concat([u16(v >>> 16), u16(v & 0xffff)]))
    let data = 8 + 2 + tags.length * 12 + 4
    const entries: Buffer[] = []
    const texts: Buffer[] = []
    for (const [tag, text] of tags) {
        const bytes = Buffer.from(`${text}\0`)
        entries.push(Buffer.concat([u16(tag), u16(2), u32(bytes.length), u32(data)]))
        texts.push(bytes)
        data += bytes.length
    }
    return Buffer.concat([latin(little ? 'II' : 'MM'), u16(42), u32(8), u16(tags.length), ...entries, u32(0), ...texts])
}

function webp(data: Buffer): Uint8Array {
    const chunk = (type: string, d: Buffer) => {
        const length = Buffer.alloc(4)
        length.writeUInt32LE(d.length)
        return Buffer.concat([latin(type), length, d, Buffer.alloc(d.length & 1)])
    }
    return Buffer.concat([latin('RIFF'), Buffer.alloc(4), latin('WEBP'), chunk('VP8 ', Buffer.alloc(7)), chunk('EXIF', data)])
}

function jpeg(data: Buffer): Uint8Array {
    const length = (n: number) => Buffer.from([(n + 2) >> 8, (n + 2) & 255])
    const app1 = Buffer.concat([latin('Exif\0\0'), data])
    return Buffer.concat([Buffer.from([0xff, 0xd8, 0xff, 0xe0]), length(3), latin('abc'), Buffer.from([0xff, 0xe1]), length(app1.length), app1, Buffer.from([0xff, 0xda])])
}

const carriers: [string, Uint8Array][] = [
    ['tEXt', png(['tEXt', latin(`workflow\0${DRAWING}`)], ['tEXt', latin(`prompt\0${PROMPT}`)])],
    ['zTXt', png(['zTXt', Buffer.concat([latin('prompt\0\0'), deflateSync(PROMPT)])], ['tEXt', latin(`workflow\0${DRAWING}`)])],
    ['iTXt', png(['iTXt', Buffer.concat([latin('prompt\0\0\0en\0Prompt\0'), Buffer.from(PROMPT)])], ['tEXt', latin(`workflow\0${DRAWING}`)])],
    ['iTXt, packed', png(['iTXt', Buffer.concat([latin('prompt\0\x01\0\0\0'), deflateSync(PROMPT)])], ['tEXt', latin(`workflow\0${DRAWING}`)])],
    ['comf after the picture', png(['IDAT', Buffer.alloc(9)], ['comf', latin(`prompt\0${PROMPT}`)], ['comf', latin(`workflow\0${DRAWING}`)])],
    ['WebP', webp(exif(true, [[0x010f, `workflow:${DRAWING}`], [0x0110, `prompt:${PROMPT}`]]))],
    ['WebP, the other byte order', webp(exif(false, [[0x010f, `workflow:${DRAWING}`], [0x0110, `prompt:${PROMPT}`]]))],
    ['JPEG', jpeg(exif(true, [[0x010f, `Workflow: ${DRAWING}`], [0x0110, `Prompt: ${PROMPT}`]]))],
]

for (const [name, bytes] of carriers)
    test(`a picture carries it: ${name}`, async () => {
        const c = await readCarried(bytes)
        assert.deepEqual(c, { kind: 'picture', prompt: PROMPT, workflow: DRAWING })
        const w = recognise(c)
        assert.equal(stringify(w.prompt), PROMPT)
        assert.equal(stringify(w.extra!), `{"extra_pnginfo": {"workflow": ${DRAWING}}}`)
    })

test('text beyond ASCII in a picture is read as it was meant', async () => {
    const text = '{"1": {"class_type": "A", "inputs": {"t": "für 漢"}}}'
    assert.equal((await readCarried(png(['tEXt', Buffer.concat([latin('prompt\0'), Buffer.from(text)])]))).prompt, text)
    const latin1 = '{"1": {"class_type": "A", "inputs": {"t": "für"}}}'
    assert.equal((await readCarried(png(['tEXt', latin(`prompt\0${latin1}`)]))).prompt, latin1)
})

test('every beginning of such a file gives an answer or a reason, and nothing else', async () => {
    for (const [, bytes] of carriers)
        for (let n = 0; n < bytes.length; n++) {
            try {
                recognise(await readCarried(bytes.subarray(0, n)))
            } catch (e) {
                assert.ok(e instanceof FileError || e instanceof NoWorkflow, `${n}: ${(e as Error).stack}`)
            }
        }
})

test('chunks that lie about themselves do no harm', async () => {
    for (const [, bytes] of carriers)
        for (let at = 8; at < bytes.length; at++) {
            const bent = Uint8Array.from(bytes)
            bent[at] = bent[at]! ^ 0xff
            try {
                recognise(await readCarried(bent))
            } catch (e) {
                assert.ok(e instanceof FileError || e instanceof NoWorkflow, `${at}: ${(e as Error).stack}`)
            }
        }
})

test('a small file that unpacks to a large one is refused', async () => {
    const bomb = deflateSync(Buffer.alloc(70 * 1024 * 1024, 0x20))
    await assert.rejects(readCarried(png(['zTXt', Buffer.concat([latin('prompt\0\0'), bomb])])), /too large/)
})

test('other files are said to be neither', async () => {
    await assert.rejects(readCarried(Buffer.from([0, 1, 2, 3])), FileError)
    await assert.rejects(readCarried(latin('\xff\xfe\xfd')), FileError)
    assert.throws(() => recognise({ kind: 'picture', prompt: null, workflow: null }), /carries no workflow/)
})

test('the ways to write a workflow down', async () => {
    const same = (text: string, extra: string | null = null) => {
        const w = fromText(text)
        assert.equal(stringify(w.prompt), PROMPT)
        assert.equal(w.extra && stringify(w.extra), extra)
    }
    same(PROMPT)
    same(`\n ${PROMPT} \n`)
    same(`{"client_id": "x", "prompt": ${PROMPT}, "extra_data": {"a": 1.0}}`, '{"a": 1.0}')
    same(`{"prompt": ${JSON.stringify(PROMPT)}}`)
    same(`{"output": ${PROMPT}, "workflow": ${DRAWING}}`)
    same(`{"prompt": [3, "id", ${PROMPT}, {"client_id": "c"}, ["1"]], "outputs": {}}`, '{"client_id": "c"}')
    same(`{"nodes": [], "links": [], "extra": {"prompt": ${PROMPT}}}`)
    const c = await readCarried(Buffer.from(`\ufeff${PROMPT}`))
    same(c.prompt!)
})

test('what is no workflow is said in words that help', () => {
    assert.throws(() => fromText(DRAWING), /Export \(API\)/)
    assert.throws(() => fromText(`{"workflow": ${DRAWING}}`), /Export \(API\)/)
    assert.throws(() => recognise({ kind: 'picture', prompt: null, workflow: DRAWING }), /Export \(API\)/)
    assert.throws(() => fromText('{}'), /no nodes/)
    assert.throws(() => fromText('[]'), NoWorkflow)
    assert.throws(() => fromText('{"a": {"b": 1}}'), /class_type/)
    assert.throws(() => fromText('hello'), /no JSON/)
    assert.throws(() => fromText(' '), /nothing/)
})

test('what Python writes and JSON does not know is read; texts that look like it stay', () => {
    const w = fromText('{"1": {"class_type": "A", "inputs": {"t": "NaN \\" -Infinity", "x": NaN, "y": [-Infinity]}}}')
    assert.equal(stringify(w.prompt), '{"1": {"class_type": "A", "inputs": {"t": "NaN \\" -Infinity", "x": null, "y": [null]}}}')
})

test('what a server noted in a node is not sent to the next', () => {
    const prompt = '{"1": {"class_type": "A", "inputs": {}, "is_changed": [NaN], "_meta": {}}}'
    assert.equal(stringify(recognise({ kind: 'picture', prompt, workflow: null }).prompt), '{"1": {"class_type": "A", "inputs": {}, "_meta": {}}}')
})
