/** The process that a command runs in; bin/lapidary.js starts it and hears the signals. */

import { endWith } from '../base/parent.js';
import { main } from './main.ts';

const { LAPIDARY_PARENT: parent } = process.env;
if (parent !== undefined) endWith(Number(parent));
process.exitCode = await main(process.argv.slice(2));
