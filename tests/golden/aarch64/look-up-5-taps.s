sub x0, x0, #1
add x1, x2, #2
add x3, x4, #16
add x5, x6, #16
ldrb w7, [x2, #1]
uxtb w7, w7
ldr q0, [x8, x7, LSL #4]
ldr q1, [x4]
ushr v1.16b, v1.16b, #4
tbl v2.16b, { v0.16b }, v1.16b
add v3.16b, v4.16b, v2.16b
ldrb w7, [x2, #13]
uxtb w7, w7
ldr q5, [x8, x7, LSL #4]
ldr q2, [x4, #96]
ushr v2.16b, v2.16b, #4
tbl v6.16b, { v5.16b }, v2.16b
add v6.16b, v3.16b, v6.16b
ldrb w7, [x2, #25]
uxtb w7, w7
ldr q7, [x8, x7, LSL #4]
ldr q3, [x4, #192]
ushr v3.16b, v3.16b, #4
tbl v8.16b, { v7.16b }, v3.16b
add v8.16b, v6.16b, v8.16b
ldrb w7, [x2, #37]
uxtb w7, w7
ldr q9, [x8, x7, LSL #4]
ldr q6, [x4, #288]
ushr v6.16b, v6.16b, #4
tbl v10.16b, { v9.16b }, v6.16b
add v10.16b, v8.16b, v10.16b
ldrb w7, [x2, #49]
uxtb w7, w7
ldr q11, [x8, x7, LSL #4]
ldr q8, [x4, #384]
ushr v8.16b, v8.16b, #4
tbl v12.16b, { v11.16b }, v8.16b
add v4.16b, v10.16b, v12.16b
ldr q10, [x6]
ushr v10.16b, v10.16b, #4
tbl v0.16b, { v0.16b }, v10.16b
add v12.16b, v13.16b, v0.16b
ldr q0, [x6, #96]
ushr v0.16b, v0.16b, #4
tbl v14.16b, { v5.16b }, v0.16b
add v14.16b, v12.16b, v14.16b
ldr q12, [x6, #192]
ushr v12.16b, v12.16b, #4
tbl v13.16b, { v7.16b }, v12.16b
add v13.16b, v14.16b, v13.16b
ldr q14, [x6, #288]
ushr v14.16b, v14.16b, #4
tbl v15.16b, { v9.16b }, v14.16b
add v13.16b, v13.16b, v15.16b
ldr q15, [x6, #384]
ushr v15.16b, v15.16b, #4
tbl v16.16b, { v11.16b }, v15.16b
add v13.16b, v13.16b, v16.16b
tbl v16.16b, { v5.16b }, v1.16b
add v17.16b, v17.16b, v16.16b
tbl v16.16b, { v7.16b }, v2.16b
add v17.16b, v17.16b, v16.16b
tbl v16.16b, { v9.16b }, v3.16b
add v17.16b, v17.16b, v16.16b
tbl v16.16b, { v11.16b }, v6.16b
add v17.16b, v17.16b, v16.16b
ldrb w6, [x2, #61]
uxtb w6, w6
ldr q16, [x8, x6, LSL #4]
tbl v18.16b, { v16.16b }, v8.16b
add v17.16b, v17.16b, v18.16b
tbl v5.16b, { v5.16b }, v10.16b
add v19.16b, v19.16b, v5.16b
tbl v5.16b, { v7.16b }, v0.16b
add v19.16b, v19.16b, v5.16b
tbl v5.16b, { v9.16b }, v12.16b
add v19.16b, v19.16b, v5.16b
tbl v5.16b, { v11.16b }, v14.16b
add v19.16b, v19.16b, v5.16b
tbl v5.16b, { v16.16b }, v15.16b
add v19.16b, v19.16b, v5.16b
tbl v5.16b, { v7.16b }, v1.16b
add v20.16b, v20.16b, v5.16b
tbl v5.16b, { v9.16b }, v2.16b
add v20.16b, v20.16b, v5.16b
tbl v5.16b, { v11.16b }, v3.16b
add v20.16b, v20.16b, v5.16b
tbl v5.16b, { v16.16b }, v6.16b
add v20.16b, v20.16b, v5.16b
ldrb w6, [x2, #73]
uxtb w6, w6
ldr q5, [x8, x6, LSL #4]
tbl v18.16b, { v5.16b }, v8.16b
add v20.16b, v20.16b, v18.16b
tbl v7.16b, { v7.16b }, v10.16b
add v21.16b, v21.16b, v7.16b
tbl v7.16b, { v9.16b }, v0.16b
add v21.16b, v21.16b, v7.16b
tbl v7.16b, { v11.16b }, v12.16b
add v21.16b, v21.16b, v7.16b
tbl v7.16b, { v16.16b }, v14.16b
add v21.16b, v21.16b, v7.16b
tbl v7.16b, { v5.16b }, v15.16b
add v21.16b, v21.16b, v7.16b
tbl v7.16b, { v9.16b }, v1.16b
add v22.16b, v22.16b, v7.16b
tbl v7.16b, { v11.16b }, v2.16b
add v22.16b, v22.16b, v7.16b
tbl v7.16b, { v16.16b }, v3.16b
add v22.16b, v22.16b, v7.16b
tbl v7.16b, { v5.16b }, v6.16b
add v22.16b, v22.16b, v7.16b
ldrb w6, [x2, #85]
uxtb w6, w6
ldr q7, [x8, x6, LSL #4]
tbl v18.16b, { v7.16b }, v8.16b
add v22.16b, v22.16b, v18.16b
tbl v9.16b, { v9.16b }, v10.16b
add v23.16b, v23.16b, v9.16b
tbl v9.16b, { v11.16b }, v0.16b
add v23.16b, v23.16b, v9.16b
tbl v9.16b, { v16.16b }, v12.16b
add v23.16b, v23.16b, v9.16b
tbl v9.16b, { v5.16b }, v14.16b
add v23.16b, v23.16b, v9.16b
tbl v9.16b, { v7.16b }, v15.16b
add v23.16b, v23.16b, v9.16b
tbl v9.16b, { v11.16b }, v1.16b
add v24.16b, v24.16b, v9.16b
tbl v9.16b, { v16.16b }, v2.16b
add v24.16b, v24.16b, v9.16b
tbl v9.16b, { v5.16b }, v3.16b
add v24.16b, v24.16b, v9.16b
tbl v9.16b, { v7.16b }, v6.16b
add v24.16b, v24.16b, v9.16b
ldrb w6, [x2, #97]
uxtb w6, w6
ldr q9, [x8, x6, LSL #4]
tbl v18.16b, { v9.16b }, v8.16b
add v24.16b, v24.16b, v18.16b
tbl v11.16b, { v11.16b }, v10.16b
add v25.16b, v25.16b, v11.16b
tbl v11.16b, { v16.16b }, v0.16b
add v25.16b, v25.16b, v11.16b
tbl v11.16b, { v5.16b }, v12.16b
add v25.16b, v25.16b, v11.16b
tbl v11.16b, { v7.16b }, v14.16b
add v25.16b, v25.16b, v11.16b
tbl v11.16b, { v9.16b }, v15.16b
add v25.16b, v25.16b, v11.16b
tbl v11.16b, { v16.16b }, v1.16b
add v26.16b, v26.16b, v11.16b
tbl v11.16b, { v5.16b }, v2.16b
add v26.16b, v26.16b, v11.16b
tbl v11.16b, { v7.16b }, v3.16b
add v26.16b, v26.16b, v11.16b
tbl v11.16b, { v9.16b }, v6.16b
add v26.16b, v26.16b, v11.16b
ldrb w6, [x2, #109]
uxtb w6, w6
ldr q11, [x8, x6, LSL #4]
tbl v18.16b, { v11.16b }, v8.16b
add v26.16b, v26.16b, v18.16b
tbl v16.16b, { v16.16b }, v10.16b
add v27.16b, v27.16b, v16.16b
tbl v16.16b, { v5.16b }, v0.16b
add v27.16b, v27.16b, v16.16b
tbl v16.16b, { v7.16b }, v12.16b
add v27.16b, v27.16b, v16.16b
tbl v16.16b, { v9.16b }, v14.16b
add v27.16b, v27.16b, v16.16b
tbl v16.16b, { v11.16b }, v15.16b
add v27.16b, v27.16b, v16.16b
tbl v1.16b, { v5.16b }, v1.16b
add v1.16b, v28.16b, v1.16b
tbl v2.16b, { v7.16b }, v2.16b
add v1.16b, v1.16b, v2.16b
tbl v2.16b, { v9.16b }, v3.16b
add v1.16b, v1.16b, v2.16b
tbl v2.16b, { v11.16b }, v6.16b
add v2.16b, v1.16b, v2.16b
ldrb w6, [x2, #121]
uxtb w6, w6
ldr q1, [x8, x6, LSL #4]
tbl v3.16b, { v1.16b }, v8.16b
add v28.16b, v2.16b, v3.16b
tbl v2.16b, { v5.16b }, v10.16b
add v2.16b, v29.16b, v2.16b
tbl v3.16b, { v7.16b }, v0.16b
add v2.16b, v2.16b, v3.16b
tbl v3.16b, { v9.16b }, v12.16b
add v2.16b, v2.16b, v3.16b
tbl v3.16b, { v11.16b }, v14.16b
add v2.16b, v2.16b, v3.16b
tbl v1.16b, { v1.16b }, v15.16b
add v29.16b, v2.16b, v1.16b
cbnz x0, label12 ; b label13
