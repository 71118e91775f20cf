// Bundles the page and its modules, and writes them as one C file (src/api/page.h says its shape):
//     node build.mjs OUT.c OUT.d [FOLDER]
// OUT.d is a make-style list of what was read. With FOLDER the files are written there as well, to look at.
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import esbuild from 'esbuild'

const here = dirname(fileURLToPath(import.meta.url))
const [outC, outD, folder] = process.argv.slice(2)
if (!outC || !outD) {
    console.error('usage: node build.mjs OUT.c OUT.d [FOLDER]')
    process.exit(2)
}

const types = {
    html: 'text/html; charset=utf-8',
    js: 'text/javascript; charset=utf-8',
    css: 'text/css; charset=utf-8',
    ts: 'text/plain; charset=utf-8',
    svg: 'image/svg+xml',
}

const read = new Set(['build.mjs', 'package-lock.json', 'tsconfig.json'])
const files = new Map()

const made = await esbuild.build({
    absWorkingDir: here,
    entryPoints: { page: 'src/page.tsx', client: 'src/client.ts', selftest: 'src/selftest.ts' },
    outdir: 'out',
    bundle: true,
    write: false,
    minify: true,
    metafile: true,
    format: 'esm',
    target: ['es2022'],
    jsx: 'automatic',
    jsxImportSource: 'preact',
    external: ['./client.js', './selftest.js'], // modules of their own: the page uses the very files that others do
    legalComments: 'none',
    logLevel: 'warning',
})
for (const f of made.outputFiles) files.set(relative(join(here, 'out'), f.path), f.contents)
for (const name of Object.keys(made.metafile.inputs)) read.add(name)

for (const name of ['index.html', 'icon.svg']) {
    files.set(name, readFileSync(join(here, 'src', name)))
    read.add(`src/${name}`)
}

// The module's types, beside it.
const declared = mkdtempSync(join(tmpdir(), 'comfymux-web-'))
try {
    const tsc = join(here, 'node_modules', 'typescript', 'bin', 'tsc')
    execFileSync(process.execPath, [tsc, '--ignoreConfig', '--declaration', '--emitDeclarationOnly', '--target', 'es2022', '--module', 'esnext',
        '--moduleResolution', 'bundler', '--lib', 'es2023,dom,dom.iterable', '--types', '', '--strict', '--skipLibCheck',
        '--outDir', declared, join(here, 'src', 'client.ts')], { stdio: ['ignore', 'inherit', 'inherit'] })
    files.set('client.d.ts', readFileSync(join(declared, 'client.d.ts')))
} finally {
    rmSync(declared, { recursive: true, force: true })
}

const array = (bytes) => {
    const lines = []
    for (let i = 0; i < bytes.length; i += 32) lines.push(bytes.subarray(i, i + 32).join(','))
    return lines.join(',\n')
}
let c = '/* Made by web/build.mjs. */\n#include "api/page.h"\n\n'
let table = 'const struct page_file page_files[] = {\n'
let n = 0
for (const [name, data] of [...files].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const bytes = new Uint8Array(data)
    const gz = gzipSync(bytes, { level: 9 })
    const etag = createHash('sha256').update(bytes).digest('hex').slice(0, 32)
    const type = types[name.slice(name.lastIndexOf('.') + 1)]
    if (!type) throw new Error(`no type for ${name}`)
    c += `static const unsigned char plain_${n}[] = {${array(bytes)}};\nstatic const unsigned char gz_${n}[] = {${array(gz)}};\n`
    table += `    {"${name}", "${type}", "\\"${etag}\\"", plain_${n}, sizeof(plain_${n}), gz_${n}, sizeof(gz_${n})},\n`
    n++
    if (folder) {
        mkdirSync(folder, { recursive: true })
        writeFileSync(join(folder, name), bytes)
    }
}
writeFileSync(outC, `${c}\n${table}    {NULL, NULL, NULL, NULL, 0, NULL, 0},\n};\n`)
writeFileSync(outD, `${outC}: ${[...read].map((name) => join(here, name).replaceAll(' ', '\\ ')).join(' \\\n  ')}\n`)
