import { survival } from './survival.mjs';

survival('SQLite');
