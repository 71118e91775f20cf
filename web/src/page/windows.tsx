export function Windows() {
    return <div class="page" />
}
