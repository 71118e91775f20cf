import './page.css'
import { render } from 'preact'

render(<main>comfymux</main>, document.getElementById('app')!)
