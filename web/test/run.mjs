// Unit tests of the pure parts of the page and its module: bundled with what they test, because Node.js does not read TypeScript everywhere, and
// run by node --test.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import esbuild from 'esbuild'

const here = dirname(fileURLToPath(import.meta.url))
const tests = readdirSync(here).filter((name) => /\.test\.(mjs|ts)$/.test(name))
const out = mkdtempSync(join(tmpdir(), 'comfymux-web-'))
try {
    await esbuild.build({
        entryPoints: tests.map((name) => join(here, name)),
        outdir: out,
        outExtension: { '.js': '.mjs' },
        bundle: true,
        format: 'esm',
        platform: 'node',
        sourcemap: 'inline',
        logLevel: 'warning',
    })
    const files = readdirSync(out).filter((name) => name.endsWith('.mjs')).map((name) => join(out, name))
    process.exitCode = spawnSync(process.execPath, ['--enable-source-maps', '--test', ...files], { stdio: 'inherit' }).status ?? 1
} finally {
    rmSync(out, { recursive: true, force: true })
}
