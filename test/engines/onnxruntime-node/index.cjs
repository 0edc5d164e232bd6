module.exports = require('../../../node_modules/onnxruntime-node');
