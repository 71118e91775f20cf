import './page.css'
import { render } from 'preact'
import { App } from './page/app'
import { start } from './page/live'

start()
render(<App />, document.getElementById('app')!)
